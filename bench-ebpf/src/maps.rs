//! The trace, the answers, and the candidates' own tables.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, LpmTrie, PerCpuArray, ProgramArray},
};

use forwarder_common::counters::Counter;

use crate::abi::{Answers, TRACE_LEN, Trace4, Trace6};

#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static DESTINATIONS4: Array<Trace4> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static DESTINATIONS6: Array<Trace6> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static ANSWERS: Array<Answers> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static CURSOR: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static SUNK: Array<[u64; 2]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static LPM4: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, 0);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static LPM6: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(1, 0);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static BY_CPU: Array<Counter> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static PER_CPU: PerCpuArray<Counter> = PerCpuArray::with_max_entries(1, 0);
/// The slot that was looked up last.
#[map]
pub static LAST: Array<u32> = Array::with_max_entries(1, 0);
#[allow(missing_docs, reason = "abi says what each map is")]
#[map]
pub static CANDIDATE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The position in the trace that comes next.
#[inline(always)]
pub fn position() -> Option<usize> {
    Some(*CURSOR.get(0)? as usize & (TRACE_LEN - 1))
}

/// Goes on to the position `by` further.
#[inline(always)]
pub fn advance(by: u64) {
    if let Some(cursor) = CURSOR.get_ptr_mut(0) {
        // SAFETY: a map value of eight octets; one program runs at a time.
        unsafe { cursor.write(cursor.read().wrapping_add(by)) };
    }
}

/// Notes the answer for a position of the trace.
#[inline(always)]
pub fn answer(at: usize, answer: u64) {
    if let Some(answers) = ANSWERS.get_ptr_mut(0) {
        // SAFETY: inside the value, whose length is the mask plus one; one program runs at a time.
        unsafe { (&raw mut (*answers)[at & (TRACE_LEN - 1)]).write(answer) };
    }
}
