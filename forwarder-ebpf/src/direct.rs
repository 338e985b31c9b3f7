//! Tables at addresses that the loader writes into the program (`forwarder_common::direct`).

use core::{arch::asm, marker::PhantomData};

use forwarder_common::direct::{address_mark, length_mark};

/// A marked immediate. Volatile, so that it is made anew where it is used: one instruction, where keeping it would cost a
/// register or two trips to the stack.
macro_rules! immediate {
    ($mark:expr) => {{
        let word: u64;
        // SAFETY: loads a number.
        unsafe {
            asm!(
                "{word} = {mark} ll",
                word = out(reg) word,
                mark = const $mark,
                options(nomem, nostack, preserves_flags)
            );
        }
        word
    }};
}

#[inline(always)]
fn address<const NUMBER: u32>() -> usize {
    immediate!(address_mark(NUMBER)) as usize
}

#[inline(always)]
fn length<const NUMBER: u32>() -> u64 {
    immediate!(length_mark(NUMBER))
}

/// A copy of which the compiler knows nothing. What it can prove it does not check, and the verifier cannot prove as much; and
/// what it keeps on the stack is not compared in place, while verifiers before Linux 6.8 take a copy there for another
/// number.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    let copy;
    // SAFETY: a copy.
    unsafe {
        asm!(
            "{copy} = {number}",
            copy = out(reg) copy,
            number = in(reg) number,
            options(nomem, nostack, preserves_flags)
        );
    }
    copy
}

/// One value.
pub struct Single<T, const NUMBER: u32>(PhantomData<T>);

impl<T, const NUMBER: u32> Single<T, NUMBER> {
    /// The value behind that number.
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// The value.
    #[inline(always)]
    pub fn get(&self) -> &'static T {
        // SAFETY: the loader put the address of a map element there whose size is that of T, and which lives as long as the
        // program; what is in it is read word by word.
        unsafe { &*(address::<NUMBER>() as *const T) }
    }
}

/// As many entries as the configuration says.
pub struct Table<T, const NUMBER: u32>(PhantomData<T>);

impl<T, const NUMBER: u32> Table<T, NUMBER> {
    /// The table behind that number.
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// Entries.
    #[inline(always)]
    pub fn length(&self) -> u32 {
        length::<NUMBER>() as u32
    }

    /// An entry, for writing by this program.
    ///
    /// The register that is compared is the one that is added to the address, whatever else the compiler does with the
    /// index ([`opaque`]).
    #[inline(always)]
    pub fn get_ptr_mut(&self, index: u32) -> Option<*mut T> {
        const { assert!(size_of::<T>().is_power_of_two()) };
        let mut entry = opaque(index as u64);
        if entry >= length::<NUMBER>() {
            return None;
        }
        // SAFETY: arithmetic alone; the kernel puts no map at 0.
        unsafe {
            asm!(
                "{entry} <<= {shift}",
                "{address} = {mark} ll",
                "{entry} += {address}",
                entry = inout(reg) entry,
                address = out(reg) _,
                shift = const size_of::<T>().trailing_zeros(),
                mark = const address_mark(NUMBER),
                options(nomem, nostack, preserves_flags)
            );
            // No entry is at 0, and who asks for a reference compares with that.
            core::hint::assert_unchecked(entry != 0);
        }
        Some(entry as *mut T)
    }

    /// An entry.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&'static T> {
        // SAFETY: inside the element, see `Single::get`.
        self.get_ptr_mut(index).map(|entry| unsafe { &*entry })
    }
}
