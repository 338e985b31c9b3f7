//! NOTIFICATIONs in words (RFC 4271 4.5, 4486, 6608, 7313, 8538, 9003, 9384).

/// What a NOTIFICATION says, and whether it forbids graceful restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// In words.
    pub text: String,
}

impl Notice {
    /// Reads the body of a NOTIFICATION, which has at least two octets.
    #[must_use]
    pub fn read(body: &[u8]) -> Notice {
        let [code, subcode, data @ ..] = body else {
            return Notice {
                code: 0,
                subcode: 0,
                text: "an empty notification".into(),
            };
        };
        Notice {
            code: *code,
            subcode: *subcode,
            text: text(*code, *subcode, data, true),
        }
    }

    /// Hard Reset (RFC 8538 3): routes must not be kept.
    #[must_use]
    pub const fn hard_reset(&self) -> bool {
        self.code == 6 && self.subcode == 9
    }
}

fn text(code: u8, subcode: u8, data: &[u8], outer: bool) -> String {
    let mut text = words(code, subcode);
    match (code, subcode) {
        // The shutdown communication: a length and UTF-8 (RFC 9003 2).
        (6, 2 | 4) => {
            if let Some((length, rest)) = data.split_first()
                && let Some(said) = rest.get(..usize::from(*length))
                && !said.is_empty()
            {
                text += &format!(": \"{}\"", printable(said));
            }
        }
        // Hard Reset carries the notification that it stands for (RFC 8538 3.1).
        (6, 9) if outer => {
            if let [code, subcode, data @ ..] = data {
                text += &format!(" ({})", self::text(*code, *subcode, data, false));
            }
        }
        _ => {}
    }
    text
}

/// What a peer wrote, made safe for a log line.
fn printable(said: &[u8]) -> String {
    String::from_utf8_lossy(said)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Code and subcode in words.
#[must_use]
pub fn words(code: u8, subcode: u8) -> String {
    let (what, which): (&str, &[&str]) = match code {
        1 => (
            "message header error",
            &[
                "",
                "connection not synchronized",
                "bad message length",
                "bad message type",
            ],
        ),
        2 => (
            "open message error",
            &[
                "",
                "unsupported version number",
                "bad peer AS",
                "bad BGP identifier",
                "unsupported optional parameter",
                "",
                "unacceptable hold time",
                "unsupported capability",
                "",
                "",
                "",
                "role mismatch",
            ],
        ),
        3 => (
            "update message error",
            &[
                "",
                "malformed attribute list",
                "unrecognized well-known attribute",
                "missing well-known attribute",
                "attribute flags error",
                "attribute length error",
                "invalid ORIGIN",
                "",
                "invalid NEXT_HOP",
                "optional attribute error",
                "invalid network field",
                "malformed AS_PATH",
            ],
        ),
        4 => ("hold timer expired", &[]),
        5 => (
            "finite state machine error",
            &["", "in OpenSent", "in OpenConfirm", "in Established"],
        ),
        6 => (
            "cease",
            &[
                "",
                "maximum number of prefixes reached",
                "administrative shutdown",
                "peer de-configured",
                "administrative reset",
                "connection rejected",
                "other configuration change",
                "connection collision resolution",
                "out of resources",
                "hard reset",
                "BFD down",
            ],
        ),
        7 => ("route refresh message error", &["", "invalid message length"]),
        8 => ("send hold timer expired", &[]),
        other => return format!("error {other}/{subcode}"),
    };
    match which.get(usize::from(subcode)) {
        Some(which) if !which.is_empty() => format!("{what}, {which}"),
        _ if subcode == 0 => what.to_string(),
        _ => format!("{what}, subcode {subcode}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_message_is_quoted_and_cannot_forge_a_log_line() {
        let mut body = vec![6, 2, 17];
        body.extend(b"disk full\nbye \x1b[1");
        let notice = Notice::read(&body);
        assert_eq!(
            notice.text,
            "cease, administrative shutdown: \"disk full bye  [1\""
        );
        assert!(!notice.hard_reset());
    }

    #[test]
    fn a_length_that_lies_costs_only_the_message() {
        assert_eq!(
            Notice::read(&[6, 2, 200, b'x']).text,
            "cease, administrative shutdown"
        );
        assert_eq!(Notice::read(&[6, 2, 0]).text, "cease, administrative shutdown");
    }

    #[test]
    fn a_hard_reset_tells_what_it_stands_for() {
        let notice = Notice::read(&[6, 9, 6, 2, 3, b'b', b'y', b'e']);
        assert!(notice.hard_reset());
        assert_eq!(
            notice.text,
            "cease, hard reset (cease, administrative shutdown: \"bye\")"
        );
        // One inside another is not followed.
        assert_eq!(
            Notice::read(&[6, 9, 6, 9, 6, 9]).text,
            "cease, hard reset (cease, hard reset)"
        );
    }

    #[test]
    fn codes_without_a_name_keep_their_numbers() {
        assert_eq!(words(2, 2), "open message error, bad peer AS");
        assert_eq!(words(4, 0), "hold timer expired");
        assert_eq!(words(3, 77), "update message error, subcode 77");
        assert_eq!(words(99, 1), "error 99/1");
    }
}
