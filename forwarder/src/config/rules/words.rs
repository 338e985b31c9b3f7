//! What stands in a condition: a word, a number, a range, or a list of those.

use std::{fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use toml::Spanned;

use crate::config::{ConfigError, check::Check, error::suggestion};
use crate::filter::{
    names::{self, Numbers},
    ranges::Ranges,
    rule::{FRAGMENT_DF, FRAGMENT_FIRST, FRAGMENT_IS, FRAGMENT_LAST, FRAGMENT_MAX, TCP_FLAGS_MAX},
};

const TCP_ADVICE: &str = "\"syn\": syn is set, whatever the others; \"syn,ack\": both are set; \"syn/syn,ack\": of syn and ack, \
                          exactly syn is set; \"none/all\": none of all is set. Flags: fin, syn, rst, psh, ack, urg, \
                          ece, cwr, ae";

/// A word, and whether it holds for a combination of fragment bits.
type FragmentWord = (&'static str, fn(u32) -> bool);

/// Words of `fragment`, and which combinations of its bits each stands for.
const FRAGMENTS: &[FragmentWord] = &[
    ("none", |bits| {
        bits & (FRAGMENT_IS | FRAGMENT_FIRST | FRAGMENT_LAST) == 0
    }),
    ("any", |bits| {
        bits & (FRAGMENT_IS | FRAGMENT_FIRST | FRAGMENT_LAST) != 0
    }),
    ("first", |bits| bits & FRAGMENT_FIRST != 0),
    ("later", |bits| bits & FRAGMENT_IS != 0),
    ("last", |bits| bits & FRAGMENT_LAST != 0),
    (DONT_FRAGMENT, |bits| bits & FRAGMENT_DF != 0),
];
/// The word that only IPv4 knows.
pub(super) const DONT_FRAGMENT: &str = "dont-fragment";

/// What else may be written, for who wrote this.
fn number_advice(of: &Numbers, word: &str) -> String {
    let number = format!("a number up to {0}, or a range as \"0-{0}\"", of.most);
    if of.names.is_empty() {
        return format!("write {number}");
    }
    let names = of.names.iter().map(|(name, _)| *name);
    format!("{}, {number}", suggestion(word, names))
}

/// A word or a number, as written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Word {
    Text(String),
    Number(i64),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Text(text) => f.write_str(text),
            Word::Number(number) => number.fmt(f),
        }
    }
}

/// One of them, or a list.
pub(super) enum Words {
    One(Word),
    More(Vec<Spanned<Word>>),
}

/// What the reader says to a value of another type.
pub(in crate::config) const EXPECTED: &str = "a word, a number, or a list of them";

struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word::Text(text.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
        Ok(Word::Number(number))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        deserializer.deserialize_any(WordVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Words, E> {
        WordVisitor.visit_str(text).map(Words::One)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Words, E> {
        WordVisitor.visit_i64(number).map(Words::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Words::More(words))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

impl Check<'_> {
    /// Each word with its place.
    pub(super) fn listed(&self, written: &Spanned<Words>) -> Result<Vec<Spanned<Word>>, ConfigError> {
        let words = match written.get_ref() {
            Words::One(word) => return Ok(vec![Spanned::new(written.span(), word.clone())]),
            Words::More(words) => words,
        };
        if words.is_empty() {
            return Err(self.error(
                written,
                "an empty list: nothing would ever match".into(),
                "name what should match, or remove the condition",
            ));
        }
        for (index, word) in words.iter().enumerate() {
            if words[..index]
                .iter()
                .any(|before| before.get_ref() == word.get_ref())
            {
                return Err(self.error(
                    word,
                    format!("`{}` stands here twice", word.get_ref()),
                    "write it once",
                ));
            }
        }
        Ok(words.clone())
    }

    /// Numbers and ranges of them, some by name.
    pub(super) fn numbers(&self, written: &Spanned<Words>, of: &Numbers) -> Result<Ranges, ConfigError> {
        let mut ranges = Vec::new();
        for word in self.listed(written)? {
            ranges.push(self.range(&word, of)?);
        }
        Ok(Ranges::of(ranges))
    }

    /// One number, range, or name.
    pub(super) fn range(&self, at: &Spanned<Word>, of: &Numbers) -> Result<RangeInclusive<u32>, ConfigError> {
        let text = at.get_ref().to_string();
        if let Some(number) = of.named(&text) {
            return Ok(number..=number);
        }
        let (first, last) = match (at.get_ref(), text.split_once('-')) {
            (Word::Text(_), Some((first, last))) => (first, last),
            _ => (text.as_str(), text.as_str()),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
        let negative = matches!(at.get_ref(), Word::Number(number) if *number < 0);
        if !(negative || digits(first) && digits(last)) {
            let message = format!("`{text}` is not {}", of.what);
            return Err(self.error(at, message, &number_advice(of, &text)));
        }
        let number = |part: &str| part.parse().ok().filter(|number| *number <= of.most);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => Err(self.error(
                at,
                format!("the range `{text}` is upside down"),
                &format!("write \"{last}-{first}\""),
            )),
            (Some(first), Some(last)) => Ok(first..=last),
            _ => Err(self.error(
                at,
                format!("`{text}` is out of range"),
                &format!("{} is 0 to {}", of.what, of.most),
            )),
        }
    }

    /// TCP flags: which must be set, and after a slash, of which.
    pub(super) fn tcp_flags(&self, written: &Spanned<Words>) -> Result<Ranges, ConfigError> {
        let mut all = Ranges::default();
        for word in self.listed(written)? {
            let text = word.get_ref().to_string();
            let (set, mask) = text.split_once('/').unwrap_or((&text, &text));
            let set = self.flags(&word, set)?;
            let mask = self.flags(&word, mask)?;
            if mask == 0 {
                let message = format!("`{text}` names no flag: every packet would match");
                return Err(self.error(&word, message, TCP_ADVICE));
            }
            if set & !mask != 0 {
                let message = format!(
                    "`{text}` wants a flag set that is not behind the slash: nothing would ever match"
                );
                return Err(self.error(&word, message, TCP_ADVICE));
            }
            all = all.or(&Ranges::where_true(TCP_FLAGS_MAX, |flags| flags & mask == set));
        }
        Ok(all)
    }

    fn flags(&self, at: &Spanned<Word>, list: &str) -> Result<u32, ConfigError> {
        names::tcp_flags(list)
            .map_err(|word| self.error(at, format!("`{word}` is not a TCP flag"), TCP_ADVICE))
    }

    /// Fragment bits for which one of the words holds.
    pub(super) fn fragments(&self, written: &Spanned<Words>) -> Result<Ranges, ConfigError> {
        let mut all = Ranges::default();
        for word in self.listed(written)? {
            let text = word.get_ref().to_string();
            let Some((_, holds)) = FRAGMENTS.iter().find(|(name, _)| *name == text) else {
                let advice = suggestion(&text, FRAGMENTS.iter().map(|(name, _)| *name));
                return Err(self.error(&word, format!("`{text}` is not known here"), &advice));
            };
            all = all.or(&Ranges::where_true(FRAGMENT_MAX, holds));
        }
        Ok(all)
    }
}
