//! Protocols of one's own: what `new` makes is sound, and every mistake made in such a folder gets its place and a hint.

mod own;

use flowproof::blank::{Describes, Files, bad_name, example, from_asyncapi};
use flowproof::corpus::Corpus;
use flowproof::diagnostic::render;
use flowproof::document::asyncapi;
use flowproof::flow::format::format;
use flowproof::flow::parse;
use flowproof::lint;
use own::{loaded, written};
use serde_json::{Value, json};

/// Everything in the folder is in order: it loads, its flows have no mistakes and are in the one style.
#[track_caller]
fn check_sound(test: &str, name: &str, files: &Files) {
    let protocol = loaded(&written(test, name, files), name);
    assert!(!protocol.flows.is_empty(), "a folder has a first flow");
    for file in protocol.flows.iter().chain(&protocol.served) {
        let found = lint::problems(file, &protocol);
        assert!(found.is_empty(), "{}", render(&found, &file.path, &file.source, false));
        assert_eq!(format(&parse(&file.source).0), file.source, "{} is not in the one style", file.path);
    }
}

#[test]
fn a_new_folder_is_sound() {
    check_sound("new", "chat", &example("chat"));
    check_sound("new-2", "my-chat2", &example("my-chat2"));
}

#[test]
fn a_folder_with_a_name_that_none_can_have_is_told() {
    let mut files = example("chat");
    let text = files.get_mut("protocol.toml").expect("it is there");
    *text = text.replacen("\"chat\"", "\"Chät\"", 1);
    let folder = written("bad-name", "Chät", &files);
    let error = Corpus::from_folder(&folder).err().expect("it is refused").messages.join("\n");
    for part in ["protocol.toml:", "begins with a small letter", "the folder has the same name"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_name_is_small_letters_digits_and_dashes() {
    assert_eq!(bad_name("my-chat2"), None);
    for name in ["", "Chat", "2chat", "my chat", "chat/x", "ch\u{e4}t"] {
        assert!(bad_name(name).is_some(), "{name:?}");
    }
}

/// A document such as people write them.
fn streetlights() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "Lights", "version": "1.2.0"},
        "servers": {"production": {"host": "example.org", "pathname": "/v1", "protocol": "wss"}},
        "channels": {
            "lights": {
                "address": "lights/{street}",
                "parameters": {"street": {"examples": ["main"]}},
                "messages": {
                    "turnOn": {"$ref": "#/components/messages/turnOn"},
                    "turned": {"$ref": "#/components/messages/turned"},
                    "dimmed": {"payload": {"type": "object", "required": ["event", "to"], "properties": {
                        "event": {"enum": ["dimmed"]}, "to": {"type": "integer", "minimum": 0, "maximum": 100},
                    }}},
                },
            },
        },
        "operations": {
            "onTurnOn": {
                "action": "receive",
                "channel": {"$ref": "#/channels/lights"},
                "messages": [{"$ref": "#/channels/lights/messages/turnOn"}],
                "reply": {
                    "channel": {"$ref": "#/channels/lights"},
                    "messages": [{"$ref": "#/channels/lights/messages/turned"}],
                },
            },
            "sendDimmed": {
                "action": "send",
                "channel": {"$ref": "#/channels/lights"},
                "messages": [{"$ref": "#/channels/lights/messages/dimmed"}],
            },
        },
        "components": {
            "messages": {
                "turnOn": {
                    "summary": "Somebody wants light.",
                    "correlationId": {"location": "$message.payload#/id"},
                    "payload": {"$ref": "#/components/schemas/turnOn"},
                },
                "turned": {
                    "correlationId": {"location": "$message.payload#/id"},
                    "payload": {"type": "object", "required": ["event", "id"], "properties": {
                        "event": {"const": "turned"}, "id": {"type": "string", "format": "uuid"},
                    }},
                },
            },
            "schemas": {
                "turnOn": {"type": "object", "required": ["command", "id", "lamp"], "properties": {
                    "command": {"const": "turn-on"},
                    "id": {"type": "string", "format": "uuid"},
                    "lamp": {"$ref": "#/components/schemas/lamp"},
                }},
                "lamp": {"type": "object", "required": ["number"], "properties": {"number": {"type": "integer", "minimum": 1, "maximum": 9}}},
            },
        },
    })
}

#[test]
fn an_asyncapi_document_becomes_a_sound_folder() {
    let files = from_asyncapi("lights", &streetlights(), Describes::Server).expect("a good document");
    check_sound("asyncapi", "lights", &files);
    let protocol = loaded(&written("asyncapi-2", "lights", &files), "lights");
    assert_eq!(protocol.settings.transport("1.2.0").default_path, "/v1/lights/main");
    let kinds: Vec<(&str, &str)> =
        protocol.messages.iter().map(|rule| (rule.name.as_str(), rule.from.as_str())).collect();
    assert_eq!(kinds, [("turnOn", "client"), ("turned", "server"), ("dimmed", "server")]);
    let flow = &files["flows/lights/turnon.flow"];
    for part in [
        "\"command\": \"turn-on\"",
        "\"id\": $id: uuid",
        "\"lamp\": {\"number\": 1..9}",
        "{\"event\": \"turned\", \"id\": $id}",
    ] {
        assert!(flow.contains(part), "no {part} in {flow}");
    }
    assert!(files["rules.toml"].contains(r#"answer = '''{"event": "turned", "id": $id}'''"#));
}

#[test]
fn what_flowproof_writes_as_asyncapi_it_reads_again() {
    let corpus = Corpus::embedded().expect("the corpus in the binary is whole");
    for protocol in corpus.protocols() {
        let document = asyncapi::document(&protocol, &protocol.settings.default_edition);
        let files = from_asyncapi("again", &document, Describes::Server).expect("a document of ours");
        check_sound(&format!("again-{}", protocol.settings.name), "again", &files);
    }
}

/// Puts one thing in place of another in a file of a new folder, and shows what is said of it.
#[track_caller]
fn check_mistake(file: &str, good: &str, bad: &str, said: &[&str]) {
    let mut files = example("chat");
    let text = files.get_mut(file).unwrap_or_else(|| panic!("there is no {file}"));
    assert!(text.contains(good), "{good:?} is not in {file}: {text}");
    *text = text.replacen(good, bad, 1);
    check_folder(&files, said);
}

#[track_caller]
fn check_folder(files: &Files, said: &[&str]) {
    let place = std::panic::Location::caller();
    let folder = written(&format!("mistake-{}", place.line()), "chat", files);
    let shown = match Corpus::from_folder(&folder) {
        Err(error) => error.messages.join("\n"),
        Ok(corpus) => {
            let protocol = corpus.protocol("chat").expect("it was just written");
            let files = protocol.flows.iter().chain(&protocol.served);
            files
                .flat_map(|file| {
                    let found = lint::problems(file, &protocol);
                    (!found.is_empty()).then(|| render(&found, &file.path, &file.source, false))
                })
                .collect::<Vec<_>>()
                .join("\n")
        }
    };
    for part in said {
        assert!(shown.contains(part), "{part:?} is not said:\n{shown}");
    }
}

#[test]
fn mistakes_in_the_settings_have_their_place_and_a_hint() {
    let file = "protocol.toml";
    check_mistake(
        file,
        "title =",
        "titel =",
        &["protocol.toml:4:1", "there is no key `titel`", "did you mean `title`?"],
    );
    check_mistake(
        file,
        "title = \"one line about chat\"\n",
        "",
        &["the key `title` is missing", "add: title = ..."],
    );
    check_mistake(
        file,
        "kind = \"websocket\"",
        "kind = \"websockets\"",
        &["protocol.toml:13:8", "there is no value `websockets`", "did you mean `websocket`?"],
    );
    check_mistake(
        file,
        "default-edition = \"v1\"",
        "default-edition = \"v2\"",
        &["protocol.toml:7:19", "there is no edition `v2`", "did you mean `v1`?"],
    );
    check_mistake(
        file,
        "from = \"client\"",
        "from = \"cleint\"",
        &["protocol.toml:49:8", "there is no role `cleint`", "did you mean `client`?"],
    );
    check_mistake(
        file,
        "requirement = \"CHAT-HELLO-2\"",
        "requirement = \"CHAT-HELO-2\"",
        &["protocol.toml:53:15", "there is no requirement `CHAT-HELO-2`", "did you mean `CHAT-HELLO-2`?"],
    );
    check_mistake(
        file,
        "requirement = \"CHAT-HELLO-2\"",
        "requirement = \"CHAT-HELLO-3\"",
        &["`CHAT-HELLO-3` does not bind a client", "it binds: server"],
    );
    check_mistake(
        file,
        "schema = \"hello.json\"",
        "schema = \"helo.json\"",
        &["protocol.toml:52:10", "there is no file schema/helo.json", "did you mean `hello.json`?"],
    );
    check_mistake(
        file,
        "when = '{\"type\": \"hello\"}'",
        "when = '{\"type\": hello}'",
        &["protocol.toml:51:18", "expected a pattern, found `hello`", "a text stands in quotes"],
    );
    check_mistake(
        file,
        "settle = \"500ms\"",
        "settle = \"500\"",
        &["protocol.toml:27:10", "`500` is not a duration such as 500ms"],
    );
    check_mistake(file, "[timing]", "[timing", &["protocol.toml:25"]);
    check_mistake(file, "name = \"client\"", "name = \"server\"", &["there are two roles `server`"]);
    check_mistake(file, "ignoring = []", "ignoring = ['{type: 1}']", &["protocol.toml:9:15", "in quotes"]);
}

#[test]
fn mistakes_in_the_requirements_have_their_place_and_a_hint() {
    let file = "requirements.toml";
    check_mistake(
        file,
        "level = \"MUST\"",
        "level = \"MUSST\"",
        &["requirements.toml:8:9", "there is no value `MUSST`", "did you mean `MUST`?"],
    );
    check_mistake(
        file,
        "roles = [\"server\", \"client\"]",
        "roles = [\"server\", \"clients\"]",
        &["requirements.toml:10:20", "there is no role `clients`", "did you mean `client`?"],
    );
    check_mistake(file, "CHAT-HELLO-3", "CHAT-HELLO-1", &["there are two requirements `CHAT-HELLO-1`"]);
    check_mistake(file, "topic = \"Greeting\"\n", "", &["requirements.toml:", "the key `topic` is missing"]);
}

#[test]
fn mistakes_in_the_rules_have_their_place_and_a_hint() {
    let file = "rules.toml";
    check_mistake(
        file,
        "kind = \"answered\"",
        "kind = \"answerd\"",
        &["rules.toml:8:8", "there is no kind of rule `answerd`", "did you mean `answered`?"],
    );
    check_mistake(file, "answer = '{", "answer = '{{", &["rules.toml:12:12"]);
    check_mistake(
        file,
        "within = \"1s\"",
        "field = \"/id\"",
        &[
            "rules.toml:13:9",
            "`field` means nothing to a rule of kind `answered`",
            "such a rule has: answer, within",
        ],
    );
    check_mistake(
        file,
        "is = '{\"type\": \"hello\"}'",
        "",
        &["rules.toml:19:8", "a rule of kind `first` needs `is`", "add: is = ..."],
    );
    check_mistake(
        file,
        "within = \"1s\"",
        "within = \"soon\"",
        &["rules.toml:13:10", "durations are written 500ms"],
    );
    check_mistake(file, "to = \"server\"", "to = \"sever\"", &["rules.toml:10:6", "did you mean `server`?"]);
    check_mistake(
        file,
        "twice = \"CHAT-HELLO-1\"",
        "twice = \"CHAT-HELLO-9\"",
        &["rules.toml:14:9", "there is no requirement"],
    );
    check_mistake(
        file,
        "requirement = \"CHAT-HELLO-2\"",
        "requirment = \"CHAT-HELLO-2\"",
        &["rules.toml:18:1", "did you mean `requirement`?"],
    );
}

#[test]
fn mistakes_in_schemas_and_flows_have_their_place_and_a_hint() {
    check_mistake(
        "schema/hello.json",
        "\"object\",",
        "\"object\"",
        &["schema/hello.json:4:3", "not JSON: expected `,` or `}`"],
    );
    check_mistake(
        "schema/hello.json",
        "\"minLength\": 1",
        "\"minLength\": \"one\"",
        &["schema/hello.json:7:", "not a JSON Schema at /properties/name/minLength"],
    );
    check_mistake(
        "flows/hello/welcome.flow",
        "alice connects",
        "alice conects",
        &["welcome.flow:6:7", "did you mean `connects`?"],
    );
    check_mistake(
        "flows/hello/welcome.flow",
        "[CHAT-HELLO-3]",
        "[CHAT-HELO-3]",
        &["welcome.flow:10:", "did you mean `CHAT-HELLO-3`?"],
    );
    check_mistake(
        "flows/hello/welcome.flow",
        "protocol chat",
        "protocol chap",
        &["welcome.flow:3:10", "this folder holds the protocol `chat`", "write: protocol chat"],
    );
}

#[test]
fn files_that_are_missing_or_lie_elsewhere_are_told() {
    let renamed = |from: &str, to: &str| {
        let mut files = example("chat");
        let text = files.remove(from).expect("it is there");
        files.insert(to.to_owned(), text);
        files
    };
    check_folder(
        &renamed("requirements.toml", "requirement.toml"),
        &["requirements.toml is missing", "there is `requirement.toml`"],
    );
    check_folder(
        &renamed("flows/hello/welcome.flow", "flow/hello/welcome.flow"),
        &["flow/hello/welcome.flow is not read", "did you mean the folder `flows`?"],
    );
    check_folder(
        &renamed("rules.toml", "rule.toml"),
        &["rule.toml is not read", "did you mean `rules.toml`?"],
    );
    check_folder(
        &renamed("flows/hello/welcome.flow", "welcome.flow"),
        &["welcome.flow is not read", "flows lie in the folder `flows`"],
    );
    let mut none = Files::new();
    none.insert("readme.json".to_owned(), "{}".to_owned());
    check_folder(&none, &["there is no protocol in", "`flowproof new NAME` makes one"]);
}

#[test]
fn several_mistakes_are_told_at_once() {
    let mut files = example("chat");
    for (file, good, bad) in [
        ("requirements.toml", "\"CHAT-SERVE-1\"", "\"CHAT-SERVES-1\""),
        ("rules.toml", "kind = \"first\"", "kind = \"frist\""),
        ("schema/welcome.json", "{", "("),
    ] {
        let text = files.get_mut(file).expect("it is there");
        *text = text.replacen(good, bad, 1);
    }
    check_folder(&files, &["rules.toml:19:8", "schema/welcome.json:1:1"]);
}

#[test]
fn a_folder_of_protocols_and_the_folder_of_one_are_both_a_corpus() {
    let folder = written("both", "chat", &example("chat"));
    loaded(&folder, "chat");
    loaded(folder.parent().expect("it lies in one"), "chat");
}
