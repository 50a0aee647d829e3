//! `flowproof show`: a flow as text, diagram or picture; a protocol as a page or an AsyncAPI document.

use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::catalogue::usage;
use super::test::find;
use super::{exit, output};
use crate::corpus::{Corpus, FlowFile, Protocol};
use crate::document::{asyncapi, page};
use crate::flow::resolve::nearest;
use crate::report::sequence::{self, mermaid, svg};
use crate::report::text::Style;

/// Columns of a diagram in text.
const WIDTH: usize = 140;

/// What `show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A flow's name, as `list` prints it, with its protocol before it where several have such a flow; or a protocol
    #[arg(required = true, num_args = 1..=2, value_name = "[PROTOCOL] FLOW")]
    words: Vec<String>,
    /// How [default: a flow as it is written, a protocol as markdown]
    #[arg(long = "as", value_enum, value_name = "SHAPE")]
    shape: Option<Shape>,
    /// The edition of the protocol, for a document about it [default: the protocol's own]
    #[arg(long)]
    edition: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// A flow as it is written
    Flow,
    /// A flow as a sequence diagram in text
    Text,
    /// A flow as a Mermaid diagram
    Mermaid,
    /// A flow as a picture
    Svg,
    /// A protocol as a page: requirements, messages, flows
    Markdown,
    /// A protocol as an AsyncAPI 3 document
    Asyncapi,
}

pub(super) fn run(args: &ShowArgs, corpus: &Corpus) -> u8 {
    match text(args, corpus) {
        Ok(text) => {
            output::print(&text);
            exit::OK
        }
        Err(error) => usage(&error),
    }
}

fn text(args: &ShowArgs, corpus: &Corpus) -> Result<String, String> {
    let (protocol, flow) = match args.words.as_slice() {
        [protocol, flow] => (Some(find(corpus, protocol)?), Some(flow.as_str())),
        [word, ..] => match corpus.protocol(word) {
            Some(protocol) => (Some(protocol), None),
            None => (None, Some(word.as_str())),
        },
        [] => return Err("name a flow or a protocol".to_owned()),
    };
    let Some(flow) = flow else {
        let protocol = protocol.ok_or("name a protocol")?;
        let edition = super::test::edition(&protocol, args.edition.as_ref())?;
        return match args.shape {
            None | Some(Shape::Markdown) => Ok(page::markdown(&protocol, &edition)),
            Some(Shape::Asyncapi) => Ok(format!("{:#}\n", asyncapi::document(&protocol, &edition))),
            Some(_) => Err(format!(
                "{} is a protocol: it is shown as markdown or asyncapi; for one of its flows, name it too",
                protocol.settings.name
            )),
        };
    };
    let (protocol, file) = find_flow(flow, protocol, corpus)?;
    let diagram = || sequence::of_flow(&file, &protocol);
    match args.shape {
        None | Some(Shape::Flow) => Ok(file.source.clone()),
        Some(Shape::Text) => Ok(sequence::text::text(&diagram(), WIDTH, Style::new(false))),
        Some(Shape::Mermaid) => Ok(mermaid::mermaid(&diagram())),
        Some(Shape::Svg) => Ok(svg::svg(&diagram(), &format!("{} {}", protocol.settings.name, file.name))),
        Some(Shape::Markdown | Shape::Asyncapi) => {
            Err("a flow is shown as flow, text, mermaid or svg; a page is made of a whole protocol"
                .to_owned())
        }
    }
}

/// A flow by its name, with or without a row of its table, in one protocol or in any.
fn find_flow(
    name: &str,
    protocol: Option<Arc<Protocol>>,
    corpus: &Corpus,
) -> Result<(Arc<Protocol>, FlowFile), String> {
    let name = name.split('#').next().unwrap_or_default().trim_end_matches(".flow");
    let protocols: Vec<Arc<Protocol>> =
        protocol.map_or_else(|| corpus.protocols().collect(), |one| vec![one]);
    let mut found = protocols.iter().filter_map(|protocol| {
        let file = protocol.flows.iter().find(|file| file.name == name)?;
        Some((Arc::clone(protocol), file.clone()))
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some((first, _)), Some((second, _))) => Err(format!(
            "{} and {} have a flow `{name}`: put the protocol before it",
            first.settings.name, second.settings.name
        )),
        (None, _) => {
            let known = protocols.iter().flat_map(|protocol| &protocol.flows).map(|file| file.name.as_str());
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`flowproof list` shows what there is".to_owned(),
            };
            Err(format!("there is no flow or protocol `{name}`; {hint}"))
        }
    }
}
