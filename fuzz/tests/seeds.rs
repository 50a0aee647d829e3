//! The fuzz targets without a fuzzer: on every seed there is, and on a few thousand changes to them, always the same.

use flowproof::corpus::Corpus;
use flowproof_fuzz::flow_parser;

/// Every flow of the corpus.
fn flows() -> Vec<String> {
    let corpus = Corpus::embedded().expect("the corpus is sound");
    let sources: Vec<String> = corpus
        .protocols()
        .flat_map(|protocol| {
            protocol.flows.iter().chain(&protocol.served).map(|file| file.source.clone()).collect::<Vec<_>>()
        })
        .collect();
    assert!(!sources.is_empty(), "the corpus has flows");
    sources
}

#[test]
fn every_flow_of_the_corpus_is_a_seed() {
    flows().iter().for_each(|source| flow_parser(source.as_bytes()));
}

#[test]
fn odd_texts_are_seeds() {
    let odd: [&[u8]; 12] = [
        b"",
        b"\xff\xfe",
        b"\xef\xbb\xbfprotocol hangout",
        b"protocol hangout\r\ncast server\r\n",
        b"alice -> server {\"a\": \"\x1b[2J\"}",
        "alice -> server {\"\u{202e}\": 1}".as_bytes(),
        b"alice -> server \"x\" * 4294967295",
        b"alice -> server \"x\" * 4294967296",
        b"wait 99999999999999999999s",
        b"wait 1e9s\nwait .s\nwait 1..2s",
        b"examples\n|a|\n||\n",
        b"either{}or{}or tolerated[A-1]{}}",
    ];
    odd.iter().for_each(|text| flow_parser(text));
}

#[test]
fn changed_flows_are_seeds() {
    let sources = flows();
    let mut rng = fastrand::Rng::with_seed(20_250_101);
    for _ in 0..3000 {
        let mut bytes = sources[rng.usize(..sources.len())].clone().into_bytes();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..=bytes.len());
            match rng.u8(..4) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, rng.u8(..)),
                2 => {
                    let end = (place + rng.usize(..20)).min(bytes.len());
                    bytes.drain(place..end);
                }
                _ => {
                    let other = sources[rng.usize(..sources.len())].as_bytes();
                    let start = rng.usize(..other.len());
                    let end = (start + rng.usize(..60)).min(other.len());
                    bytes.splice(place..place, other[start..end].iter().copied());
                }
            }
        }
        flow_parser(&bytes);
    }
}
