//! The framing of FPM: version, kind, length in network order with the header counted (fpm/fpm.h of FRR).
//!
//! ```text
//!  0       1       2               4
//!  +-------+-------+---------------+----------------
//!  | 1     | 1     | length        | netlink messages
//!  +-------+-------+---------------+----------------
//! ```

use super::Fault;

/// Length of the header.
pub const HEADER: usize = 4;
/// The only version there is.
const VERSION: u8 = 1;
/// Netlink; 2 is protobuf.
const NETLINK: u8 = 1;

/// Appends a frame with this payload, which is far shorter than a frame may be.
pub fn put(payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() + HEADER <= usize::from(u16::MAX));
    out.extend([VERSION, NETLINK]);
    out.extend(((payload.len() + HEADER) as u16).to_be_bytes());
    out.extend(payload);
}

/// Cuts a stream into frames. Keeps at most one that is not whole: 64 KiB.
#[derive(Debug, Default)]
pub struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// Takes octets as they came; `each` gets the payload of every frame that is whole now. The first fault, of the
    /// framing or of `each`, ends it: the stream cannot be understood any further.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.partial.is_empty() {
            let taken = self.complete(bytes)?;
            bytes = &bytes[taken..];
            if length(&self.partial)? != Some(self.partial.len()) {
                return Ok(());
            }
            let frame = std::mem::take(&mut self.partial);
            each(&frame[HEADER..])?;
            // Keeps the room for the next one.
            self.partial = frame;
            self.partial.clear();
        }
        while let Some(length) = length(bytes)? {
            let Some((frame, rest)) = bytes.split_at_checked(length) else {
                break;
            };
            each(&frame[HEADER..])?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds to the frame that is not whole what it lacks; how much of `bytes` that took.
    fn complete(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        loop {
            let wanted = length(&self.partial)?.unwrap_or(HEADER) - self.partial.len();
            let piece = wanted.min(bytes.len() - taken);
            if piece == 0 {
                return Ok(taken);
            }
            self.partial.extend_from_slice(&bytes[taken..taken + piece]);
            taken += piece;
        }
    }

    /// Whether a frame has begun and is not whole.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Forgets a frame that is not whole.
    pub fn clear(&mut self) {
        self.partial = Vec::new();
    }
}

/// The length of the frame that begins here, header included, as far as it can be told. What is wrong is said as soon as
/// it is seen: a peer that speaks something else may never send a whole header.
fn length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    if let Some(&version) = bytes.first()
        && version != VERSION
    {
        return Err(Fault::new(
            format!("FPM version {version}, and this is version 1"),
            bytes,
        ));
    }
    if let Some(&kind) = bytes.get(1)
        && kind != NETLINK
    {
        return Err(Fault::new(
            format!("FPM messages of kind {kind}, and only kind 1, netlink, is understood"),
            bytes,
        ));
    }
    let Some(length) = bytes.get(2..HEADER).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length < HEADER {
        return Err(Fault::new(format!("a frame of {length} octets"), bytes));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len() + HEADER).unwrap().to_be_bytes();
        [&[1, 1, length[0], length[1]], payload].concat()
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let payloads = [b"one".to_vec(), Vec::new(), vec![7; 65_531], b"four".to_vec()];
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
        for cut in [1, 2, 3, 4, 5, 7, 64, 4_096, 65_535, stream.len()] {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in stream.chunks(cut) {
                frames
                    .feed(piece, |payload| {
                        got.push(payload.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            assert!(got == payloads, "cut every {cut}");
            assert!(!frames.is_partial(), "cut every {cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_at_its_first_octet() {
        let fails = |bytes: &[u8]| {
            let mut frames = Frames::default();
            let whole = frames.feed(bytes, |_| Ok(())).unwrap_err().to_string();
            let mut frames = Frames::default();
            let single = bytes
                .iter()
                .find_map(|octet| frames.feed(&[*octet], |_| Ok(())).err());
            assert_eq!(
                single.unwrap().reason,
                Frames::default().feed(bytes, |_| Ok(())).unwrap_err().reason
            );
            whole
        };
        assert_eq!(fails(&[9]), "FPM version 9, and this is version 1 (octets 09)");
        assert!(fails(&[1, 2]).starts_with("FPM messages of kind 2"));
        assert_eq!(fails(&[1, 1, 0, 3]), "a frame of 3 octets (octets 01010003)");
        assert!(fails(b"GET / HTTP/1.1\r\n").starts_with("FPM version 71"));
    }

    #[test]
    fn a_frame_that_never_ends_keeps_64_kib_at_most() {
        let mut frames = Frames::default();
        for _ in 0..65_534 {
            frames
                .feed(if frames.is_partial() { &[255] } else { &[1] }, |_| Ok(()))
                .unwrap_or_default();
            if frames.partial.len() == 1 {
                frames.feed(&[1, 255, 255], |_| Ok(())).unwrap();
            }
        }
        assert!(frames.is_partial() && frames.partial.len() <= 65_535);
    }
}
