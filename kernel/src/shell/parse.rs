//! The command language: words, quotes, `;`, `&` and `$?`.
//!
//! A line is a list of jobs, each ended by `;`, `&` or the end of the line. A job is a list of words. Words are split at
//! blanks; `'...'` keeps everything, `"..."` keeps everything but `\"`, `\\`, `\$` and `$?`, and a backslash outside quotes
//! keeps the next character. `#` at the start of a word begins a comment. There are no variables but `$?`, no pipes and no
//! redirections: those belong to `run /bin/busybox sh`, and using one here says so.
//!
//! Lines, jobs and words have limits, so that no list grows beyond what the kernel's heap gives in one piece, a page.
//!
//! Parsing allocates and never waits; the result is owned, so that a job can move into a task of its own.

use alloc::{string::String, vec::Vec};
use core::fmt;

/// Longest line, in bytes.
pub const LINE_MAX: usize = 4000;
/// Most words in a job, and most jobs in a line.
pub const WORDS_MAX: usize = 100;

/// One job of a line: its words, and whether the shell waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    words: Vec<Word>,
    /// The job was ended by `&`.
    pub background: bool,
}

impl Job {
    /// The words with `$?` replaced by `status`. Never empty.
    pub fn expand(&self, status: u8) -> Vec<String> {
        self.words.iter().map(|word| word.expand(status)).collect()
    }
}

/// A word, before `$?` is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Status,
}

impl Word {
    fn expand(&self, status: u8) -> String {
        use fmt::Write;
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                // Writing to a `String` cannot fail.
                Part::Status => {
                    let _ = write!(text, "{status}");
                }
            }
        }
        text
    }

    fn push(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(String::from(c))),
        }
    }
}

/// Why a line is refused. Nothing of a refused line runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// A quote was opened and not closed.
    Unclosed(char),
    /// A backslash ends the line.
    Backslash,
    /// `;` or `&` with nothing before it.
    EmptyJob(char),
    /// A piece of a larger shell's language.
    Unsupported(char),
    /// The line is longer than [`LINE_MAX`].
    LineTooLong,
    /// More than [`WORDS_MAX`] words in a job, or jobs in the line.
    TooMany,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed(quote) => write!(f, "a {quote} is opened and not closed"),
            Self::Backslash => f.write_str("the line ends in a backslash"),
            Self::EmptyJob(end) => write!(f, "nothing stands before `{end}`"),
            Self::LineTooLong => write!(f, "the line is longer than {LINE_MAX} bytes"),
            Self::TooMany => write!(f, "more than {WORDS_MAX} words in a job, or jobs in a line"),
            Self::Unsupported(c) => {
                write!(
                    f,
                    "`{c}` is not part of this shell: quote it, or use run /bin/busybox sh -c '...'"
                )
            }
        }
    }
}

/// Splits `line` into jobs. An empty line, or one of comments, gives no job.
pub fn parse(line: &str) -> Result<Vec<Job>, ParseError> {
    if line.len() > LINE_MAX {
        return Err(ParseError::LineTooLong);
    }
    let mut jobs = Vec::new();
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if words.len() >= WORDS_MAX || jobs.len() >= WORDS_MAX {
            return Err(ParseError::TooMany);
        }
        match c {
            '\'' => quote(&mut chars, word.get_or_insert(Word(Vec::new())))?,
            '"' => double_quote(&mut chars, word.get_or_insert(Word(Vec::new())))?,
            '\\' => {
                let kept = chars.next().ok_or(ParseError::Backslash)?;
                word.get_or_insert(Word(Vec::new())).push(kept);
            }
            '$' if chars.next_if_eq(&'?').is_some() => {
                word.get_or_insert(Word(Vec::new())).0.push(Part::Status);
            }
            '#' if word.is_none() => break,
            ';' | '&' => {
                words.extend(word.take());
                if words.is_empty() {
                    return Err(ParseError::EmptyJob(c));
                }
                jobs.push(Job {
                    words: core::mem::take(&mut words),
                    background: c == '&',
                });
            }
            '|' | '<' | '>' | '(' | ')' | '`' => return Err(ParseError::Unsupported(c)),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert(Word(Vec::new())).push(c),
        }
    }
    words.extend(word);
    if !words.is_empty() {
        jobs.push(Job {
            words,
            background: false,
        });
    }
    Ok(jobs)
}

type Chars<'a> = core::iter::Peekable<core::str::Chars<'a>>;

fn quote(chars: &mut Chars<'_>, word: &mut Word) -> Result<(), ParseError> {
    // An empty pair of quotes is a word too.
    word.0.push(Part::Text(String::new()));
    loop {
        match chars.next().ok_or(ParseError::Unclosed('\''))? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quote(chars: &mut Chars<'_>, word: &mut Word) -> Result<(), ParseError> {
    word.0.push(Part::Text(String::new()));
    loop {
        match chars.next().ok_or(ParseError::Unclosed('"'))? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(ParseError::Unclosed('"'))? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => {
                    word.push('\\');
                    word.push(c);
                }
            },
            '$' if chars.next_if_eq(&'?').is_some() => word.0.push(Part::Status),
            c => word.push(c),
        }
    }
}

/// Quotes `word` so that [`parse`] reads it back as one word: what completion puts on the line.
pub fn quote_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:=@%~^".contains(c);
    let mut quoted = String::new();
    for c in word.chars() {
        if !plain(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn words(line: &str) -> Vec<Vec<String>> {
        parse(line)
            .unwrap()
            .iter()
            .map(|job| job.expand(7))
            .collect()
    }

    #[test]
    fn splits_words_and_jobs() {
        assert_eq!(
            words("run  /bin/ls -l ; ps"),
            [vec!["run", "/bin/ls", "-l"], vec!["ps"]]
        );
        let jobs = parse("a & b & c").unwrap();
        assert_eq!(
            jobs.iter().map(|job| job.background).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(parse("  # only a comment").unwrap().is_empty());
        assert!(parse("").unwrap().is_empty());
        assert_eq!(words("ls;"), [vec!["ls"]]);
    }

    #[test]
    fn quotes_keep_blanks_and_separators() {
        assert_eq!(
            words(r#"sh -c "echo hello | wc -c; ls""#),
            [vec!["sh", "-c", "echo hello | wc -c; ls"]]
        );
        assert_eq!(words(r"a 'b; \ c' d\ e"), [vec!["a", r"b; \ c", "d e"]]);
        assert_eq!(words(r#""" ''"#), [vec!["", ""]]);
        assert_eq!(
            words(r#""a\"b\\c\$d\e" x"y"'z'"#),
            [vec![r#"a"b\c$d\e"#, "xyz"]]
        );
        assert_eq!(words("a#b"), [vec!["a#b"]]);
    }

    #[test]
    fn status_is_replaced_where_a_shell_would() {
        assert_eq!(
            words(r#"echo $? "x$?y" '$?' \$?"#),
            [vec!["echo", "7", "x7y", "$?", "$?"]]
        );
        assert_eq!(words("echo $HOME $"), [vec!["echo", "$HOME", "$"]]);
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        assert_eq!(parse("a 'b"), Err(ParseError::Unclosed('\'')));
        assert_eq!(parse("a \"b\\"), Err(ParseError::Unclosed('"')));
        assert_eq!(parse("a \\"), Err(ParseError::Backslash));
        assert_eq!(parse("; a"), Err(ParseError::EmptyJob(';')));
        assert_eq!(parse("a && b"), Err(ParseError::EmptyJob('&')));
        assert_eq!(parse("a | b"), Err(ParseError::Unsupported('|')));
    }

    #[test]
    fn refuses_what_is_too_long() {
        assert_eq!(
            parse(&"x".repeat(LINE_MAX + 1)),
            Err(ParseError::LineTooLong)
        );
        assert_eq!(parse(&"x ".repeat(WORDS_MAX + 1)), Err(ParseError::TooMany));
        assert_eq!(parse(&"x;".repeat(WORDS_MAX + 1)), Err(ParseError::TooMany));
        assert_eq!(words(&"x ".repeat(WORDS_MAX - 1))[0].len(), WORDS_MAX - 1);
    }

    #[test]
    fn quoting_a_word_reads_back() {
        for word in ["plain", "two words", "a'b\"c\\d", "$?", "x;y&z|#", "#c"] {
            assert_eq!(words(&quote_word(word)), [vec![word]]);
        }
    }
}
