//! Rules as data: each kind of rule speaks when it is broken, and is silent when it is kept or when nothing is certain.

mod own;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flowproof::blank::Files;
use flowproof::corpus::Protocol;
use flowproof::judge::finding::Ruling;
use flowproof::live::session::{Session, SessionConfig};
use flowproof::live::trace::{End, Event, Happening};
use own::{loaded, written};

const SETTINGS: &str = r#"
name = "rules"
title = "rules on trial"
editions = ["v1", "v2"]
default-edition = "v1"
[transport]
kind = "websocket"
[[role]]
name = "server"
listens = true
[[role]]
name = "client"
listens = false
[timing]
settle = "500ms"
slack = "0ms"
timeout = "5s"
[settings]
magic = "xyzzy"
"#;

const REQUIREMENTS: &str = r#"
[[requirement]]
id = "R-1"
level = "MUST"
roles = ["server", "client"]
topic = "t"
section = "s"
text = "The rule on trial."
[[requirement]]
id = "R-2"
level = "MUST"
roles = ["server", "client"]
topic = "t"
section = "s"
text = "Its second requirement."
[[requirement]]
id = "R-3"
level = "MUST"
roles = ["server", "client"]
topic = "t"
section = "s"
text = "Its third requirement."
[[requirement]]
id = "R-4"
level = "MUST"
roles = ["server", "client"]
topic = "t"
section = "s"
text = "Its fourth requirement."
"#;

/// A rule, and conversations that it judges.
struct Trial {
    protocol: Arc<Protocol>,
    exclusive: bool,
    edition: &'static str,
}

#[track_caller]
fn trial(rule: &str) -> Trial {
    let place = std::panic::Location::caller();
    let files: Files = [
        ("protocol.toml", SETTINGS),
        ("requirements.toml", REQUIREMENTS),
        ("rules.toml", &format!("[[rule]]\nrequirement = \"R-1\"\n{rule}")),
    ]
    .into_iter()
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .collect();
    let protocol = loaded(&written(&format!("rule-{}", place.line()), "rules", &files), "rules");
    Trial { protocol, exclusive: true, edition: "v1" }
}

/// `1000 2> TEXT` is something that the client on link 2 says after a second, `1000 2< TEXT` something it is told;
/// `open`, `closing`, `closed` and `binary` are what they say. An empty line means nothing.
fn events(script: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let at_ms = words.next().and_then(|word| word.parse().ok()).expect("a time");
        let link = words.next().expect("a link");
        let rest = words.next().expect("what happened");
        let from = if link.ends_with('>') { End::Client } else { End::Server };
        let link = link.trim_end_matches(['<', '>']).parse().expect("a number");
        let what = match rest {
            "open" => Happening::Opened { target: "/".to_owned(), subprotocols: Vec::new() },
            "closing" => Happening::Closing { code: Some(1000), reason: String::new() },
            "closed" => Happening::Closed,
            "binary" => Happening::Binary { hex: "00".to_owned() },
            text => Happening::Text { text: text.to_owned() },
        };
        events.push(Event { at_ms, link, from, what });
    }
    events
}

impl Trial {
    fn shared(mut self) -> Trial {
        self.exclusive = false;
        self
    }

    fn edition(mut self, edition: &'static str) -> Trial {
        self.edition = edition;
        self
    }

    /// What is said of the conversation: `R-1 server` for each accusation.
    #[track_caller]
    fn says(&self, script: &str, wanted: &[&str]) -> &Trial {
        let config = SessionConfig {
            edition: self.edition.to_owned(),
            slack: Duration::ZERO,
            exclusive: self.exclusive,
            settings: BTreeMap::new(),
        };
        let mut session = Session::new(Arc::clone(&self.protocol), config);
        let mut findings: Vec<_> = events(script).iter().flat_map(|event| session.observe(event)).collect();
        findings.extend(session.finish());
        let said: Vec<String> = findings
            .iter()
            .filter(|finding| finding.ruling == Ruling::Broken)
            .map(|finding| format!("{} {}", finding.requirement.as_deref().unwrap_or("-"), finding.by))
            .collect();
        assert_eq!(said, wanted, "{script}\n{findings:#?}");
        self
    }
}

#[test]
fn a_number_counts() {
    trial("kind = \"counts\"\nfrom = \"client\"\nfield = \"/seq\"\nfirst = 1")
        .says("0 1> {\"seq\": 1}\n1 1> {\"seq\": 2.0}\n2 2> {\"seq\": 1}\n3 1< {\"seq\": 7}", &[])
        .says("0 1> {\"seq\": 2}\n1 1> {\"seq\": 3}", &["R-1 client.1"])
        .says("0 1> {\"seq\": 1}\n1 1> {\"seq\": 1}\n2 1> {\"seq\": 2}", &["R-1 client.1"])
        .says("0 1> {\"other\": 1}\n1 1> {\"seq\": \"x\"}\n2 1> {\"seq\": 1}", &[]);
    trial("kind = \"counts\"\nwhen = '{\"k\": _}'\nfield = \"/k/n\"\nby = -2")
        .says("0 1> {\"k\": {\"n\": 9}}\n1 1> {\"k\": {\"n\": 7}}\n2 1> {\"n\": 1}", &[])
        .says("0 1< {\"k\": {\"n\": 9}}\n1 1< {\"k\": {\"n\": 8}}", &["R-1 server"]);
}

#[test]
fn a_rule_belongs_to_its_editions() {
    let rule = "kind = \"never\"\nwhen = '{\"x\": _}'\neditions = [\"v2\"]";
    trial(rule).says("0 1> {\"x\": 1}", &[]);
    trial(rule).edition("v2").says("0 1> {\"x\": 1}", &["R-1 client.1"]);
}

#[test]
fn a_value_stays() {
    trial("kind = \"stays\"\nfrom = \"server\"\nfield = \"/you\"")
        .says(
            "0 1< {\"you\": \"a\"}\n1 2< {\"you\": \"b\"}\n2 1< {\"you\": \"a\"}\n3 1> {\"you\": \"z\"}",
            &[],
        )
        .says("0 1< {\"you\": \"a\"}\n1 1< {\"you\": \"b\"}", &["R-1 server"]);
}

#[test]
fn a_value_is_unique() {
    trial("kind = \"unique\"\nfield = \"/id\"")
        .says("0 1> {\"id\": 1}\n1 1> {\"id\": 2}\n2 1< {\"id\": 1}\n3 2> {\"id\": 1}", &[])
        .says("0 1> {\"id\": 1}\n1 1> {\"id\": 1.0}", &["R-1 client.1"]);
    trial("kind = \"unique\"\nfield = \"/id\"\nper = \"run\"")
        .says("0 1> {\"id\": \"a\"}\n1 2> {\"id\": \"b\"}", &[])
        .says("0 1> {\"id\": \"a\"}\n1 1> closed\n2 2> {\"id\": \"a\"}", &["R-1 client.2"]);
    trial("kind = \"unique\"\nfrom = \"server\"\nfield = \"/you\"\nper = \"connections\"")
        .says("0 1< {\"you\": \"a\"}\n1 1< {\"you\": \"a\"}\n2 1> closed\n3 2< {\"you\": \"a\"}", &[])
        .says("0 1< {\"you\": \"a\"}\n1 2< {\"you\": \"a\"}", &["R-1 server"]);
}

#[test]
fn something_comes_first() {
    trial("kind = \"first\"\nfrom = \"client\"\nis = '{\"type\": \"hello\"}'")
        .says("0 1< {}\n1 1> {\"type\": \"hello\"}\n2 1> {}\n3 2> {\"type\": \"hello\"}", &[])
        .says("0 1> {}\n1 1> {\"type\": \"hello\"}", &["R-1 client.1"])
        .says("0 1> not JSON\n1 1> {}", &[]);
}

#[test]
fn something_comes_only_after() {
    trial("kind = \"after\"\nfrom = \"client\"\nwhen = '{\"do\": _}'\nafter = '{\"ok\": true}'\nafter-from = \"server\"")
        .says("0 1> {}\n1 1< {\"ok\": true}\n2 1> {\"do\": 1}", &[])
        .says("0 1> {\"ok\": true}\n1 1> {\"do\": 1}", &["R-1 client.1"])
        .says("0 1< {\"ok\": true}\n1 2> {\"do\": 1}", &["R-1 client.2"]);
}

#[test]
fn something_never_comes_and_settings_are_variables() {
    trial("kind = \"never\"\nfrom = \"server\"\nwhen = '{\"word\": $magic}'")
        .says("0 1< {\"word\": \"please\"}\n1 1> {\"word\": \"xyzzy\"}", &[])
        .says("0 1< {\"word\": \"xyzzy\"}", &["R-1 server"]);
}

#[test]
fn something_comes_again_and_again() {
    trial("kind = \"every\"\nfrom = \"server\"\nwhen = '{\"beat\": _}'\nshortest = \"900ms\"\nlongest = \"1100ms\"")
        .says("0 1< {\"beat\": 1}\n1000 1< {\"beat\": 2}\n2100 1< {\"beat\": 3}\n2200 1< closed\n9000 2> {}", &[])
        .says("0 1< {\"beat\": 1}\n500 1< {\"beat\": 2}", &["R-1 server"])
        .says("0 1< {\"beat\": 1}\n1200 1> {}\n1300 1< {\"beat\": 2}", &["R-1 server"]);
}

const ANSWERED: &str = "kind = \"answered\"\nfrom = \"client\"\nto = \"server\"\nwhen = '{\"ask\": $id}'\n\
                        answer = '{\"reply\": $id}'\nwithin = \"1s\"\ntwice = \"R-2\"\nunasked = \"R-3\"";

#[test]
fn what_is_asked_is_answered_once_and_in_time() {
    trial(ANSWERED)
        .says(
            "0 1> {\"ask\": 1}\n1 1> {\"ask\": 2}\n2 1< {\"reply\": 2}\n900 1< {\"reply\": 1}\n9000 2> {}",
            &[],
        )
        .says("0 1> {\"ask\": 1}\n2000 1> {}", &["R-1 server"])
        .says("0 1> {\"ask\": 1}\n2000 1< {\"reply\": 1}", &["R-1 server"])
        .says("0 1> {\"ask\": 1}\n1 1< {\"reply\": 1}\n2 1< {\"reply\": 1}", &["R-2 server"])
        .says("0 1> {\"ask\": 1}\n1 1< {\"reply\": 2}\n2 1< {\"reply\": 1}", &["R-3 server"])
        .says("0 1< {\"reply\": 1}", &["R-3 server"])
        .says("0 1> {\"ask\": 1}\n1 2< {\"reply\": 1}\n2 1< {\"reply\": 1}", &["R-3 server"]);
}

#[test]
fn nobody_owes_an_answer_to_one_who_left_or_talked_nonsense() {
    trial(ANSWERED)
        .says("0 1> {\"ask\": 1}\n1 1> closing\n2000 1< closed", &[])
        .says("0 1> {\"ask\": 1}\n1 1< closed\n2000 2> {}", &[])
        .says("0 1> not JSON\n1 1< {\"reply\": null}", &[])
        .says("0 1> binary\n1 1< {\"reply\": null}", &[])
        // The end of the conversation came too soon to tell.
        .says("0 1> {\"ask\": 1}\n900 1> {}", &[]);
}

const REACHES: &str = "kind = \"reaches\"\nfrom = \"client\"\nto = \"server\"\nwhen = '{\"say\": $text}'\n\
                       arrives = '{\"said\": $text}'\nwithin = \"1s\"\ntwice = \"R-2\"\nstrangers = \"R-3\"\nunasked = \"R-4\"\n";
const THREE: &str = "0 1> open\n0 2> open\n0 3> open\n";

#[test]
fn what_one_says_reaches_the_others() {
    let rule = trial(REACHES);
    let check = |script: &str, wanted: &[&str]| {
        rule.says(&format!("{THREE}{script}"), wanted);
    };
    check("1000 1> {\"say\": \"a\"}\n1001 2< {\"said\": \"a\"}\n1002 3< {\"said\": \"a\"}\n9000 1> {}", &[]);
    check("1000 1> {\"say\": \"a\"}\n1001 2< {\"said\": \"a\"}\n9000 1> {}", &["R-1 server"]);
    check("1000 1> {\"say\": \"a\"}\n1001 2< {\"said\": \"a\"}\n3000 3< {\"said\": \"a\"}", &["R-1 server"]);
    check(
        "1000 1> {\"say\": \"a\"}\n1001 2< {\"said\": \"a\"}\n1002 3< {\"said\": \"a\"}\n1003 3< {\"said\": \"a\"}",
        &["R-2 server"],
    );
    check(
        "1000 1> {\"say\": \"a\"}\n1001 2< {\"said\": \"a\"}\n1002 3< {\"said\": \"a\"}\n1003 1< {\"said\": \"a\"}",
        &["R-3 server"],
    );
    check("1000 1< {\"said\": \"a\"}", &["R-4 server"]);
    // Two say the same: each gets the other's.
    check(
        "1000 1> {\"say\": \"a\"}\n1000 2> {\"say\": \"a\"}\n1001 1< {\"said\": \"a\"}\n1001 2< {\"said\": \"a\"}\n\
         1001 3< {\"said\": \"a\"}\n1002 3< {\"said\": \"a\"}\n9000 1> {}",
        &[],
    );
}

#[test]
fn who_came_or_left_a_moment_ago_may_or_may_not_get_it() {
    let rule = trial(REACHES);
    rule.says("0 1> open\n0 2> open\n100 1> {\"say\": \"a\"}\n9000 1> {}", &[]);
    rule.says("0 1> open\n0 2> open\n100 1> {\"say\": \"a\"}\n101 2< {\"said\": \"a\"}\n9000 1> {}", &[]);
    rule.says("0 1> open\n0 2> open\n1000 1> {\"say\": \"a\"}\n1001 2> closing\n9000 1> {}", &[]);
    rule.says("0 1> open\n0 2> open\n1000 1> {\"say\": \"a\"}\n1001 1> closing\n9000 2> {}", &[]);
}

#[test]
fn with_strangers_about_copies_prove_nothing() {
    let rule = trial(REACHES).shared();
    rule.says("0 1> open\n0 2> open\n1000 1< {\"said\": \"a\"}", &[]);
    let echoed = "0 1> open\n0 2> open\n1000 1> {\"say\": \"a\"}\n1001 2< {\"said\": \"a\"}\n1002 1< {\"said\": \"a\"}";
    rule.says(echoed, &[]);
}

#[test]
fn what_one_says_in_a_room_reaches_the_room() {
    let rule = trial(
        "kind = \"reaches\"\nfrom = \"client\"\nto = \"server\"\nwhen = '{\"say\": $text, \"in\": $room}'\n\
         arrives = '{\"said\": $text, \"in\": $room}'\nwhom = \"all\"\nwithin = \"1s\"\njoins = '{\"joined\": $room}'\n\
         leaves = '{\"left\": $room}'\nstrangers = \"R-3\"",
    );
    let rooms = "0 1> open\n0 2> open\n0 3> open\n1 1< {\"joined\": \"x\"}\n1 2< {\"joined\": \"x\"}\n1 3< {\"joined\": \"y\"}\n";
    let check = |script: &str, wanted: &[&str]| {
        rule.says(&format!("{rooms}{script}"), wanted);
    };
    let all = "10 1> {\"say\": \"a\", \"in\": \"x\"}\n11 1< {\"said\": \"a\", \"in\": \"x\"}\n12 2< {\"said\": \"a\", \"in\": \"x\"}\n";
    check(&format!("{all}9000 1> {{}}"), &[]);
    check(&format!("{all}13 3< {{\"said\": \"a\", \"in\": \"x\"}}"), &["R-3 server"]);
    check(
        "10 1> {\"say\": \"a\", \"in\": \"x\"}\n11 1< {\"said\": \"a\", \"in\": \"x\"}\n9000 1> {}",
        &["R-1 server"],
    );
    // Who has left need not get it, and soon must not.
    check(
        "5 2< {\"left\": \"x\"}\n10 1> {\"say\": \"a\", \"in\": \"x\"}\n11 1< {\"said\": \"a\", \"in\": \"x\"}\n9000 1> {}",
        &[],
    );
    check(
        "5 2< {\"left\": \"x\"}\n1000 1> {\"say\": \"a\", \"in\": \"x\"}\n1001 1< {\"said\": \"a\", \"in\": \"x\"}\n\
         1002 2< {\"said\": \"a\", \"in\": \"x\"}",
        &["R-3 server"],
    );
    // One who is in no room may be refused.
    check("10 3> {\"say\": \"a\", \"in\": \"x\"}\n9000 1> {}", &[]);
}
