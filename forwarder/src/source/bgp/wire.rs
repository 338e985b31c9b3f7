//! Messages as they lie in the stream: the header, its checks, and the short messages that we send (RFC 4271 4.1, 6.1).

use std::fmt;

/// Octets of the header: marker, length, type.
pub const HEADER: usize = 19;
/// Longest message (RFC 4271 4.1).
pub const LONGEST: usize = 4096;
/// Longest message where both sides agreed on more (RFC 8654).
pub const LONGEST_EXTENDED: usize = 65_535;

/// KEEPALIVE: a header.
pub const KEEPALIVE: [u8; HEADER] = {
    let mut message = [0xff; HEADER];
    message[16] = 0;
    message[17] = HEADER as u8;
    message[18] = 4;
    message
};

/// Types of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Begins a session.
    Open,
    /// Routes.
    Update,
    /// Ends a session.
    Notification,
    /// Nothing new.
    Keepalive,
    /// Asks for routes, or says where their repetition begins and ends (RFC 2918, RFC 7313).
    RouteRefresh,
}

/// A message without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: Kind,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Why a session must end, as the NOTIFICATION tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data for the other side.
    pub data: Vec<u8>,
    /// What happened, for our own log.
    pub why: String,
}

impl Fault {
    /// A fault without data.
    pub fn new(code: u8, subcode: u8, why: impl Into<String>) -> Fault {
        Fault {
            code,
            subcode,
            data: Vec::new(),
            why: why.into(),
        }
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, data: &[u8]) -> Fault {
        self.data = data.to_vec();
        self
    }

    /// The NOTIFICATION. Data that would not fit is cut.
    #[must_use]
    pub fn notification(&self) -> Vec<u8> {
        let room = LONGEST - HEADER - 2;
        let data = &self.data[..self.data.len().min(room)];
        message(3, &[&[self.code, self.subcode], data].concat())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// A message of this type; the caller keeps the body within the limit.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u16;
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// End-of-RIB for a family (RFC 4724 2): all that we ever tell. A speaker that knows graceful restart owes it even when it
/// has no routes, and daemons that have restarted wait for it before they end their own.
#[must_use]
pub fn end_of_rib(afi: u16, safi: u8) -> Vec<u8> {
    let [high, low] = afi.to_be_bytes();
    match (afi, safi) {
        (1, 1) => message(2, &[0; 4]),
        _ => message(2, &[0, 0, 0, 6, 0x80, 15, 3, high, low, safi]),
    }
}

/// The first message in `stream` and its length with the header, or nothing while it is not whole. `longest` is what the
/// session agreed on.
///
/// # Errors
/// The header is none, with what RFC 4271 6.1 has us answer.
pub fn first(stream: &[u8], longest: usize) -> Result<Option<(Message<'_>, usize)>, Fault> {
    let Some((header, _)) = stream.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if header[..16] != [0xff; 16] {
        return Err(Fault::new(1, 1, "a message does not begin with the marker"));
    }
    let field = [header[16], header[17]];
    let length = usize::from(u16::from_be_bytes(field));
    let bad_length = |why: String| Err(Fault::new(1, 2, why).with(&field));
    let (kind, least, most) = match header[18] {
        1 => (Kind::Open, 29, LONGEST),
        2 => (Kind::Update, 23, longest),
        3 => (Kind::Notification, 21, longest),
        4 => (Kind::Keepalive, HEADER, HEADER),
        5 => (Kind::RouteRefresh, HEADER, longest),
        other => {
            return Err(Fault::new(1, 3, format!("message type {other} is not known")).with(&[other]));
        }
    };
    if length < least || length > most {
        return bad_length(format!(
            "a {kind:?} of {length} octets: {least} to {most} are possible"
        ));
    }
    match stream.get(HEADER..length) {
        Some(body) => Ok(Some((Message { kind, body }, length))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_there_when_its_last_octet_is() {
        let mut stream = KEEPALIVE.to_vec();
        stream.extend(message(2, &[0, 0, 0, 0]));
        for cut in 0..HEADER {
            assert_eq!(first(&stream[..cut], LONGEST), Ok(None));
        }
        let (keepalive, length) = first(&stream, LONGEST).unwrap().unwrap();
        assert_eq!((keepalive.kind, length), (Kind::Keepalive, 19));
        assert_eq!(first(&stream[19..41], LONGEST), Ok(None));
        let (update, length) = first(&stream[19..], LONGEST).unwrap().unwrap();
        assert_eq!(
            (update.kind, update.body, length),
            (Kind::Update, &[0; 4][..], 23)
        );
    }

    #[test]
    fn lengths_that_lie_are_answered_with_the_length() {
        let header = |length: u16, kind: u8| {
            let mut header = vec![0xff; 16];
            header.extend(length.to_be_bytes());
            header.push(kind);
            header
        };
        for (length, kind) in [
            (18, 4),
            (20, 4),
            (28, 1),
            (4097, 1),
            (22, 2),
            (4097, 2),
            (20, 3),
            (0, 2),
        ] {
            let fault = first(&header(length, kind), LONGEST).unwrap_err();
            assert_eq!((fault.code, fault.subcode), (1, 2), "{length} {kind}");
            assert_eq!(fault.data, length.to_be_bytes());
        }
        assert_eq!(first(&header(4097, 2), LONGEST_EXTENDED), Ok(None));
        // Extended messages are never OPEN or KEEPALIVE (RFC 8654 4).
        assert!(first(&header(4097, 1), LONGEST_EXTENDED).is_err());
    }

    #[test]
    fn a_broken_marker_and_an_unknown_type_have_their_codes() {
        let mut broken = KEEPALIVE;
        broken[3] = 0;
        let fault = first(&broken, LONGEST).unwrap_err();
        assert_eq!((fault.code, fault.subcode), (1, 1));
        let mut strange = KEEPALIVE;
        strange[18] = 9;
        let fault = first(&strange, LONGEST).unwrap_err();
        assert_eq!((fault.code, fault.subcode, fault.data), (1, 3, vec![9]));
    }

    #[test]
    fn a_notification_never_grows_beyond_a_message() {
        let long = Fault::new(2, 0, "").with(&[7; 9000]).notification();
        assert_eq!(long.len(), LONGEST);
        assert!(first(&long, LONGEST).unwrap().is_some());
    }
}
