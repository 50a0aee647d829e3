//! Tokens for logins, from the service by itself and from the server's own.

use flowproof_reference::machine::{Action, Input, LinkId, Machine, Outbox, Request, Response, Time};
use flowproof_reference::polfan::{Auth, AuthConfig};
use serde_json::{Value, json};

use crate::world::World;

fn ask(auth: &mut Auth, body: &Value) -> Response {
    let request = Request {
        method: "POST".to_owned(),
        path: "/webservice/auth/token".to_owned(),
        body: body.to_string().into_bytes(),
        ..Request::default()
    };
    let mut out = Outbox::default();
    auth.handle(Time::ZERO, Input::Requested { link: LinkId(0), request: &request }, &mut out);
    let answered = std::iter::from_fn(|| out.pop()).find_map(|action| match action {
        Action::Respond { response, .. } => Some(response),
        _ => None,
    });
    answered.expect("every request is answered")
}

#[test]
fn good_credentials_get_a_token_and_others_a_list_of_errors() {
    let mut auth = Auth::new(&AuthConfig::default());
    let good = ask(&mut auth, &json!({ "login": "bob", "password": "secret", "client_name": "test" }));
    let body: Value = serde_json::from_slice(&good.body).expect("JSON");
    assert_eq!(good.status, 200);
    assert!(body["token"].is_string() && body["expiration"].is_string());
    for (login, password) in [("bob", "wrong"), ("nobody", "secret")] {
        let bad = ask(&mut auth, &json!({ "login": login, "password": password }));
        let body: Value = serde_json::from_slice(&bad.body).expect("JSON");
        assert_eq!(bad.status, 401);
        assert!(body["errors"][0].is_string());
    }
    assert_eq!(ask(&mut auth, &json!({ "login": "bob" })).status, 400);
}

#[test]
fn the_server_takes_the_tokens_that_it_gives_and_revokes_the_oldest() {
    let mut world = World::new();
    world.join("bob");
    let body = r#"{"login":"bob","password":"secret","client_name":"test"}"#;
    let mut latest = String::new();
    // Together with the one from the configuration, one more than a user may have.
    for _ in 0..10 {
        let answer = world.asks("POST", "/webservice/auth/token", &[], body);
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        latest = answer["token"].as_str().expect("a token").to_owned();
    }
    let heard = world.heard("bob");
    assert_eq!(heard[0]["meta"]["type"], "Bye");
    assert_eq!(heard[1], "close 1008");
    world.connect("bob", &format!("token={latest}"));
    assert_eq!(world.kinds("bob"), ["Session"]);
}
