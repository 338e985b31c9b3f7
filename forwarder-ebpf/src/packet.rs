//! Access to the packet: the only pointer arithmetic of the program.
//!
//! Loads and stores of words are unaligned (an IP header starts two octets off), which BPF allows but LLVM would split into
//! single octets; so on BPF each is one instruction written out.

/// The octets of a frame, between `data` and `data_end`.
#[derive(Clone, Copy)]
pub struct Packet {
    start: *mut u8,
    end: *mut u8,
}

impl Packet {
    /// A view of the frame.
    ///
    /// # Safety
    /// `start..end` is memory that may be read and written for as long as the view is used. In the program this is
    /// `data..data_end` of the context, taken anew after every helper that moves the packet.
    #[inline(always)]
    pub unsafe fn new(start: usize, end: usize) -> Packet {
        Packet {
            start: start as *mut u8,
            end: end as *mut u8,
        }
    }

    /// Octets in the frame, without FCS.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.end as usize - self.start as usize
    }

    /// The frame from `offset` on, which is below 64 KiB.
    #[inline(always)]
    pub fn from(&self, offset: usize) -> Packet {
        Packet {
            start: self.start.wrapping_add(offset),
            end: self.end,
        }
    }

    /// How far behind the start of `other`, a view of the same frame, this one starts: octets.
    #[inline(always)]
    pub fn behind(&self, other: &Packet) -> usize {
        self.start as usize - other.start as usize
    }

    /// Proves that the first `N` octets exist; what is read inside needs no further check.
    #[inline(always)]
    pub fn head<const N: usize>(&self) -> Option<Head<N>> {
        if self.start.wrapping_add(N) <= self.end {
            Some(Head { start: self.start })
        } else {
            None
        }
    }
}

/// The first `N` octets of a frame, known to exist.
#[derive(Clone, Copy)]
pub struct Head<const N: usize> {
    // A pointer and no number, or the compiler takes it apart where it shares its place with something else.
    start: *mut u8,
}

macro_rules! word {
    ($load:ident, $store:ident, $type:ty, $asm:literal) => {
        /// The word at `OFFSET`, as the host reads it.
        #[inline(always)]
        pub fn $load<const OFFSET: usize>(self) -> $type {
            const { assert!(OFFSET + size_of::<$type>() <= N) };
            #[cfg(target_arch = "bpf")]
            {
                let word: u64;
                // SAFETY: `head` compared OFFSET + size with the end; BPF loads need no alignment on the architectures
                // this object is for. The instruction reads memory and nothing else.
                unsafe {
                    core::arch::asm!(
                        concat!("{word} = *(", $asm, " *)({at} + {offset})"),
                        word = out(reg) word, at = in(reg) self.start, offset = const OFFSET,
                        options(pure, readonly, nostack, preserves_flags)
                    );
                    // The load fills the rest of the register with zeros (RFC 9669 5.2).
                    core::hint::assert_unchecked(word <= <$type>::MAX as u64);
                }
                word as $type
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: `head` compared OFFSET + size with the end; unaligned reads are asked for.
            unsafe {
                self.start.add(OFFSET).cast::<$type>().read_unaligned()
            }
        }

        /// Stores the word at `OFFSET`, as the host writes it.
        #[inline(always)]
        pub fn $store<const OFFSET: usize>(self, value: $type) {
            const { assert!(OFFSET + size_of::<$type>() <= N) };
            #[cfg(target_arch = "bpf")]
            // SAFETY: as for the load; the frame is ours to write until the verdict.
            unsafe {
                core::arch::asm!(
                    concat!("*(", $asm, " *)({at} + {offset}) = {word}"),
                    word = in(reg) value as u64, at = in(reg) self.start, offset = const OFFSET,
                    options(nostack, preserves_flags)
                );
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: `head` compared OFFSET + size with the end; unaligned writes are asked for.
            unsafe {
                self.start.add(OFFSET).cast::<$type>().write_unaligned(value)
            }
        }
    };
}

impl<const N: usize> Head<N> {
    word!(u8, set_u8, u8, "u8");
    word!(u16, set_u16, u16, "u16");
    word!(u32, set_u32, u32, "u32");
    word!(u64, set_u64, u64, "u64");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_exists_only_where_the_octets_do() {
        let mut frame = [0u8, 1, 2, 3, 4, 5, 6, 7];
        let start = frame.as_mut_ptr() as usize;
        // SAFETY: the range is the array.
        let packet = unsafe { Packet::new(start, start + frame.len()) };
        assert!(packet.head::<9>().is_none());
        let head = packet.head::<8>().expect("eight octets");
        assert_eq!(head.u16::<1>(), u16::from_le_bytes([1, 2]));
        assert_eq!(head.u32::<3>(), u32::from_le_bytes([3, 4, 5, 6]));
        head.set_u16::<5>(0xbeef);
        assert_eq!(frame[5..7], [0xef, 0xbe]);
    }
}
