//! All that is known of a protocol as one page of Markdown: requirements by topic, messages with their schemas, flows
//! with their diagrams.

use crate::corpus::{MessageRule, Protocol, TransportKind};
use crate::flow::format::{duration_text, pattern_text};
use crate::judge::catalogue::Requirement;
use crate::report::markdown::{code, words};
use crate::report::sequence::{mermaid, of_flow};
use crate::runner::plan;

/// Writes the page of a protocol in one edition.
pub fn markdown(protocol: &Protocol, edition: &str) -> String {
    let settings = &protocol.settings;
    let mut text = format!("# {}\n\n{}.\n\n", words(&settings.name), words(&settings.title));
    let transport = match settings.transport(edition).kind {
        TransportKind::Websocket => "WebSocket, with HTTP beside it",
        TransportKind::Udp => "UDP, one message a datagram",
        TransportKind::Tcp => "TCP, four bytes of length before each message",
    };
    text.push_str(&format!(
        "Edition {} of: {}. Transport: {transport}.\n\n",
        words(edition),
        settings.editions.join(", ")
    ));
    text.push_str("| role | others connect to it |\n| --- | --- |\n");
    for role in &settings.roles {
        text.push_str(&format!("| {} | {} |\n", words(&role.name), if role.listens { "yes" } else { "no" }));
    }
    text.push_str("\n## Requirements\n\n");
    let in_force = |editions: &[String]| editions.is_empty() || editions.iter().any(|known| known == edition);
    let mut topic = "";
    for requirement in protocol.catalogue.iter().filter(|one| in_force(&one.editions)) {
        if requirement.topic != topic {
            topic = &requirement.topic;
            text.push_str(&format!(
                "\n### {}\n\n| id | level | binds | what it asks for |\n| --- | --- | --- | --- |\n",
                words(topic)
            ));
        }
        text.push_str(&row(requirement));
    }
    text.push_str("\n## Messages\n\n");
    for rule in protocol.messages.iter().filter(|rule| in_force(&rule.editions)) {
        text.push_str(&message(rule));
    }
    text.push_str("## Flows\n\n");
    for file in &protocol.flows {
        let editions = file.editions();
        if !editions.is_empty() && !editions.contains(&edition) {
            continue;
        }
        let ids: Vec<String> = plan::cited(file).iter().map(|id| code(id)).collect();
        text.push_str(&format!("### {}\n\n{}\n\n", words(&file.name), words(&file.summary())));
        if !ids.is_empty() {
            text.push_str(&format!("Watches: {}.\n\n", ids.join(", ")));
        }
        text.push_str(&format!("```mermaid\n{}```\n\n", mermaid::mermaid(&of_flow(file, protocol))));
    }
    text.push_str(&format!(
        "What is told of a change may travel for {}.\n",
        duration_text(settings.timing.settle)
    ));
    text
}

fn row(requirement: &Requirement) -> String {
    let untested = match &requirement.untested {
        Some(reason) => format!(" Not tested: {}.", words(reason)),
        None => String::new(),
    };
    format!(
        "| {} | {} | {} | {}{untested} |\n",
        code(&requirement.id),
        requirement.level,
        words(&requirement.roles.join(", ")),
        words(&requirement.text)
    )
}

fn message(rule: &MessageRule) -> String {
    format!(
        "### {} ({} to {})\n\nJudged under {}, for messages like {}:\n\n```json\n{:#}\n```\n\n",
        words(&rule.name),
        words(&rule.from),
        words(&rule.to),
        code(&rule.requirement),
        code(&pattern_text(&rule.when)),
        rule.document
    )
}
