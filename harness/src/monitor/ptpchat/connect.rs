//! What S makes of CONNECT, with addresses that are swapped: it completes what either end says with the source that it
//! sees, and turns the two round (sections 2.2 and 3.3).

use std::net::SocketAddr;

use flowproof_reference::machine::Time;

use super::{Message, ends, message};
use crate::monitor::{Monitor, MonitorConfig, NotJson, Rulings, Seen, What};

/// Questions and answers that are remembered.
const REMEMBERED: usize = 1024;

/// A's question to S.
struct Asked {
    /// Where it came from.
    from: SocketAddr,
    /// B's IP.
    target: String,
    /// The port it claims.
    port: String,
}

/// B's answer to S.
struct Answered {
    from: SocketAddr,
    /// A's address, as S told it.
    asker: String,
    port: String,
}

pub(super) struct Connects {
    swap: bool,
    asked: Vec<Asked>,
    answered: Vec<Answered>,
    /// Something was said that may be a CONNECT to some readers.
    unclear: bool,
}

impl Connects {
    pub(super) fn new(config: &MonitorConfig) -> Connects {
        let swap = config.settings.get("connect").is_none_or(|connect| connect == "swap");
        Connects { swap, asked: Vec::new(), answered: Vec::new(), unclear: false }
    }

    fn said_to_s(&mut self, seen: &Seen<'_>, connect: &Message<'_>) {
        let Some((from, _)) = ends(seen) else { return };
        let port = |src: &&str| src.parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == *src);
        let (Some(dst), Some(src)) = (connect.text("dst"), connect.text("src").filter(port)) else {
            // What S makes of it, it may hand on.
            self.unclear = true;
            return;
        };
        if dst.parse::<std::net::Ipv4Addr>().is_ok() && self.asked.len() < REMEMBERED {
            self.asked.push(Asked { from, target: dst.to_owned(), port: src.to_owned() });
        } else if dst.parse::<std::net::SocketAddrV4>().is_ok() && self.answered.len() < REMEMBERED {
            self.answered.push(Answered { from, asker: dst.to_owned(), port: src.to_owned() });
        } else {
            self.unclear = true;
        }
    }

    fn said_by_s(&self, seen: &Seen<'_>, connect: &Message<'_>, rulings: &mut Rulings) {
        let Some((_, to)) = ends(seen) else { return };
        let own = to.ip().to_string();
        let (dst, src) = (connect.text("dst"), connect.text("src"));
        let questions: Vec<&Asked> = self.asked.iter().filter(|asked| asked.target == own).collect();
        let ip_of = |address: &str| address.rsplit_once(':').map(|(ip, _)| ip.to_owned());
        let answers: Vec<&Answered> =
            self.answered.iter().filter(|answered| ip_of(&answered.asker).as_deref() == Some(&own)).collect();
        let (by, at) = (seen.from, seen.at);
        let second = |asked: &&&Asked| {
            dst == Some(&format!("{}:{}", asked.from.ip(), asked.port)) && src == Some(asked.target.as_str())
        };
        if let Some(asked) = questions.iter().find(second) {
            for requirement in ["PTPCHAT-CONN-2", "PTPCHAT-CONN-3", "PTPCHAT-CONN-5"] {
                rulings.kept(requirement, by, at);
            }
            if asked.from.port().to_string() != asked.port {
                rulings.kept("PTPCHAT-CONN-4", by, at);
            }
            return;
        }
        let fourth = |answered: &&&Answered| {
            dst == Some(&format!("{}:{}", answered.from.ip(), answered.port)) && src == Some(&answered.asker)
        };
        if answers.iter().any(|answered| fourth(&answered)) {
            rulings.kept("PTPCHAT-CONN-7", by, at);
            rulings.kept("PTPCHAT-CONN-8", by, at);
            return;
        }
        // With one question or one answer open there is no doubt which it should have been.
        match (questions.as_slice(), answers.as_slice()) {
            _ if self.unclear => {}
            ([asked], []) => asked.accuse(seen, connect, rulings),
            ([], [answered]) => answered.accuse(seen, connect, rulings),
            _ => {}
        }
    }
}

impl Asked {
    fn accuse(&self, seen: &Seen<'_>, second: &Message<'_>, rulings: &mut Rulings) {
        let wanted = format!("{}:{}", self.from.ip(), self.port);
        let dst = second.text("dst").unwrap_or_default();
        let from_source = format!("{}:{}", self.from.ip(), self.from.port());
        let other_ip = dst.rsplit_once(':').is_some_and(|(_, port)| port == self.port);
        let (requirement, expected) = if dst == wanted {
            ("PTPCHAT-CONN-5", format!("`src` = {:?}", self.target))
        } else if dst == from_source {
            ("PTPCHAT-CONN-4", format!("`dst` = {wanted:?}, with the port that was claimed"))
        } else if other_ip && dst.starts_with(|c: char| c.is_ascii_digit()) {
            ("PTPCHAT-CONN-3", format!("`dst` = {wanted:?}, with the IP that the question came from"))
        } else {
            ("PTPCHAT-CONN-2", format!("`dst` = {wanted:?}"))
        };
        let message = "S did not complete the question as it should before it handed it on";
        rulings.broken(requirement, seen.from, seen.at, message, expected, second.whole.clone());
    }
}

impl Answered {
    fn accuse(&self, seen: &Seen<'_>, fourth: &Message<'_>, rulings: &mut Rulings) {
        let wanted = format!("{}:{}", self.from.ip(), self.port);
        let (requirement, expected) = if fourth.text("dst") == Some(&wanted) {
            ("PTPCHAT-CONN-8", format!("`src` = {:?}", self.asker))
        } else {
            ("PTPCHAT-CONN-7", format!("`dst` = {wanted:?}"))
        };
        let message = "S did not complete the answer as it should before it handed it on";
        rulings.broken(requirement, seen.from, seen.at, message, expected, fourth.whole.clone());
    }
}

impl Monitor for Connects {
    fn observe(&mut self, seen: &Seen<'_>, rulings: &mut Rulings) {
        if let What::Text { text, json } = &seen.what
            && seen.to.under_test
        {
            let hidden = *json == Err(NotJson::BeyondUs) || text.contains("CONNECT");
            self.unclear |= hidden && message(&seen.what).is_none();
        }
        let Some(connect) = message(&seen.what).filter(|said| self.swap && said.verb == "CONNECT") else {
            return;
        };
        if seen.from.under_test && seen.from.role == "server" {
            self.said_by_s(seen, &connect, rulings);
        } else if seen.to.under_test {
            self.said_to_s(seen, &connect);
        }
    }

    fn finish(&mut self, now: Time, rulings: &mut Rulings) {
        let _ = (now, rulings);
    }
}
