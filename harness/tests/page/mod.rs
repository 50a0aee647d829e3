//! The fenced blocks of a page for readers.

#![allow(dead_code, reason = "each test binary uses a part of it")]

/// A fenced block: the words behind its fence, the line of the fence, and its text.
pub(crate) struct Fenced<'a> {
    pub(crate) words: Vec<&'a str>,
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// All blocks of a page, in their order.
pub(crate) fn blocks(page: &str) -> Vec<Fenced<'_>> {
    let mut blocks: Vec<Fenced<'_>> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(words) => {
                let words = words.split_whitespace().collect();
                blocks.push(Fenced { words, line: number + 1, text: String::new() });
                open = true;
            }
            None if open => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "the last block of the page is not closed");
    blocks
}
