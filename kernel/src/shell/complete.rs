//! Tab completion: commands for the first word of a job, paths for the others.

use super::{Shell, commands, parse};
use crate::fs::vnode::Kind;
use alloc::{format, string::String, vec::Vec};

/// Most candidates offered; a directory with more says nothing useful on a screen.
const MOST: usize = 150;

/// Completions of the word that ends `before` (the text left of the cursor): where the word begins in bytes, and the words it may
/// become. Awaits directories.
pub(super) async fn candidates(shell: &Shell, before: &str) -> (usize, Vec<String>) {
    let (start, first) = word(before);
    let typed = &before[start..];
    let mut found: Vec<String> = if first {
        commands::all()
            .map(|command| String::from(command.name))
            .filter(|name| name.starts_with(typed))
            .collect()
    } else {
        paths(shell, &unquote(typed)).await
    };
    found.sort_unstable();
    (start, found)
}

async fn paths(shell: &Shell, typed: &str) -> Vec<String> {
    let (directory, prefix) = match typed.rfind('/') {
        Some(at) => (&typed[..=at], &typed[at + 1..]),
        None => ("/", typed),
    };
    let Ok(entries) = shell.system().list_directory(directory.as_bytes()).await else {
        return Vec::new();
    };
    entries
        .into_iter()
        .filter(|(name, _)| {
            name.starts_with(prefix) && (!prefix.is_empty() || !name.starts_with('.'))
        })
        .take(MOST)
        .map(|(name, kind)| {
            let slash = if kind == Some(Kind::Directory) {
                "/"
            } else {
                ""
            };
            parse::quote_word(&format!("{directory}{name}{slash}"))
        })
        .collect()
}

/// Where the last word of `before` begins, and whether it is the first word of a job.
fn word(before: &str) -> (usize, bool) {
    let mut start = 0;
    let mut first = true;
    let mut fresh = true;
    let mut quote = None;
    let mut chars = before.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, ';' | '&') => {
                start = at + 1;
                (first, fresh) = (true, true);
            }
            (None, ' ') => {
                start = at + 1;
                first &= fresh;
            }
            (None, c) => {
                // A word after this one is not the job's first any more.
                fresh = false;
                match c {
                    '\'' | '"' => quote = Some(c),
                    '\\' => drop(chars.next()),
                    _ => {}
                }
            }
        }
    }
    (start, first)
}

fn unquote(word: &str) -> String {
    let mut plain = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            '\'' | '"' => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_under_the_cursor() {
        assert_eq!(word(""), (0, true));
        assert_eq!(word("ru"), (0, true));
        assert_eq!(word("  ru"), (2, true));
        assert_eq!(word("run "), (4, false));
        assert_eq!(word("run /bin/b"), (4, false));
        assert_eq!(word("run /a\\ b"), (4, false));
        assert_eq!(word("run '/a b"), (4, false));
        assert_eq!(word("ps; ru"), (4, true));
        assert_eq!(word("ps;ls "), (6, false));
    }

    #[test]
    fn quotes_are_taken_off_before_looking() {
        assert_eq!(unquote("/a\\ b"), "/a b");
        assert_eq!(unquote("'/a b"), "/a b");
    }
}
