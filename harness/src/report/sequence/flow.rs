//! A flow that is not running, as a diagram: what its text says.

use super::{Arrow, Diagram, Frame, Item, Mark};
use crate::corpus::{FlowFile, Protocol};
use crate::flow::ast::{Block, HeaderItem, Name, Step, StepKind};
use crate::flow::format::{duration_text, payload_text, step_text};

/// Draws what a flow says.
pub fn of_flow(file: &FlowFile, protocol: &Protocol) -> Diagram {
    let mut drawer = Drawer { diagram: Diagram::default(), listener: 0 };
    for line in &file.flow.header {
        let HeaderItem::Cast(members) = &line.item else { continue };
        for member in members.iter().filter(|member| member.socket_of.is_none()) {
            let role = member.role.as_ref().unwrap_or(&member.name);
            if protocol.settings.roles.iter().any(|known| known.listens && known.name == role.text) {
                drawer.listener = drawer.diagram.lifelines.len();
            }
            drawer.diagram.lifelines.push(member.name.text.clone());
        }
    }
    drawer.steps(&file.flow.steps);
    drawer.diagram
}

struct Drawer {
    diagram: Diagram,
    /// Whom one connects to when the flow does not say it.
    listener: usize,
}

impl Drawer {
    fn lifeline(&mut self, name: &str) -> usize {
        // A further socket stands on the line of its owner.
        let owner = name.split_once('.').map_or(name, |(owner, _)| owner);
        let known = self.diagram.lifelines.iter().position(|known| known == name || known == owner);
        known.unwrap_or_else(|| self.diagram.lifeline(name))
    }

    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.step(step));
    }

    fn arrow(&mut self, step: &Step, from: &Name, to: Option<&Name>, label: String) {
        let from = self.lifeline(&from.text);
        let to = to.map_or(self.listener, |name| self.lifeline(&name.text));
        self.diagram.items.push(Item::Arrow(Arrow {
            at: None,
            from,
            to,
            label,
            cites: step.cites.iter().map(|name| name.text.clone()).collect(),
            mark: Mark::Plain,
        }));
    }

    fn block(&mut self, step: &Step, frame: Frame, title: &str, block: &Block) {
        let cites: Vec<&str> = step.cites.iter().map(|name| name.text.as_str()).collect();
        let title =
            if cites.is_empty() { title.to_owned() } else { format!("{title} [{}]", cites.join(" ")) };
        self.diagram.items.push(Item::Open(frame, title));
        self.steps(&block.steps);
        self.diagram.items.push(Item::Close);
    }

    fn step(&mut self, step: &Step) {
        // What stands behind the participants' names in the text of the step.
        let without = |words: usize| {
            let text = step_text(&step.kind);
            text.splitn(words + 1, ' ').nth(words).unwrap_or_default().to_owned()
        };
        match &step.kind {
            StepKind::Arrow { from, to, payload } => self.arrow(step, from, Some(to), payload_text(payload)),
            StepKind::Connects { who, to, .. } => self.arrow(step, who, to.as_ref(), without(1)),
            StepKind::Opens { who } | StepKind::Disconnects { who, .. } | StepKind::Vanishes { who } => {
                self.arrow(step, who, None, without(1));
            }
            StepKind::Closes { who, whom, .. } => {
                let rest = without(3);
                self.arrow(step, who, Some(whom), format!("closes {rest}").trim_end().to_owned());
            }
            StepKind::Drops { who, whom } => {
                self.arrow(step, who, Some(whom), "drops the connection".to_owned())
            }
            StepKind::Refuses { who, whom, .. } => {
                let rest = without(3);
                self.arrow(step, who, Some(whom), format!("refuses {rest}").trim_end().to_owned());
            }
            StepKind::Greets { who, whom } => {
                self.arrow(step, who, Some(whom), "greets, again and again".to_owned());
            }
            StepKind::Within { limit, block } => {
                self.block(step, Frame::Region, &format!("within {}", duration_text(*limit)), block);
            }
            StepKind::Every { shortest, longest, times, block } => {
                let gaps = format!("{}..{}", duration_text(*shortest), duration_text(*longest));
                self.block(step, Frame::Loop, &format!("every {gaps}, {times} times"), block);
            }
            StepKind::AnyOrder(block) => self.block(step, Frame::Region, "in any order", block),
            StepKind::Optionally(block) => self.block(step, Frame::Optional, "perhaps", block),
            StepKind::Repeat { times, block, .. } => {
                self.block(step, Frame::Loop, &format!("{times} times"), block);
            }
            StepKind::Either(branches) => {
                for (place, branch) in branches.iter().enumerate() {
                    let title = if branch.tolerated {
                        "tolerated"
                    } else if place == 0 {
                        "either"
                    } else {
                        "or"
                    };
                    self.diagram.items.push(match place {
                        0 => Item::Open(Frame::Alternatives, title.to_owned()),
                        _ => Item::Else(title.to_owned()),
                    });
                    self.steps(&branch.block.steps);
                }
                self.diagram.items.push(Item::Close);
            }
            StepKind::Does { .. }
            | StepKind::Exits { .. }
            | StepKind::Quits { .. }
            | StepKind::Knows { .. }
            | StepKind::Let { .. }
            | StepKind::Quiet { .. }
            | StepKind::Resumes { .. }
            | StepKind::Served
            | StepKind::Settle
            | StepKind::Stalls { .. }
            | StepKind::Stops { .. }
            | StepKind::Wait(_) => {
                let cites: Vec<&str> = step.cites.iter().map(|name| name.text.as_str()).collect();
                let text = step_text(&step.kind);
                let text = if cites.is_empty() { text } else { format!("{text} [{}]", cites.join(" ")) };
                self.diagram.items.push(Item::Note(text));
            }
        }
    }
}
