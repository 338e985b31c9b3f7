//! Shared memory that a program on another CPU reads or writes at the same time.
//!
//! All access is by aligned atomic words, so it is free of data races by construction. Stores are `Release` and loads
//! `Acquire`: on x86 both are plain moves.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
};

use forwarder_common::Plain;

const PAGE: usize = 4096;

enum Owner {
    Mapping,
    Heap(Layout),
}

/// A stretch of shared memory.
pub struct Region {
    start: NonNull<u8>,
    length: usize,
    owner: Owner,
}

// SAFETY: all access is by atomic words; the memory lives until the Region is dropped.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Zeroed heap memory: the in-memory twin of a map.
    pub fn heap(length: usize) -> Region {
        let length = length.next_multiple_of(PAGE).max(PAGE);
        let layout = Layout::from_size_align(length, PAGE).unwrap_or_else(|_| Layout::new::<[u8; PAGE]>());
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Region {
            start,
            length,
            owner: Owner::Heap(layout),
        }
    }

    /// The memory of a `BPF_F_MMAPABLE` array.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn map(fd: BorrowedFd<'_>, length: usize, writable: bool) -> io::Result<Region> {
        let length = length.next_multiple_of(PAGE);
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        // SAFETY: a new mapping at an address the kernel chooses; the result is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(start) = NonNull::new(start.cast()) else {
            return Err(io::Error::other("mmap returned address 0"));
        };
        Ok(Region {
            start,
            length,
            owner: Owner::Mapping,
        })
    }

    /// Octets, a multiple of the page size.
    pub fn length(&self) -> usize {
        self.length
    }

    fn check(&self, offset: usize, size: usize) {
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.length,
            "offset {offset} beyond a region of {}",
            self.length
        );
    }

    /// The 8-byte word at `offset`.
    ///
    /// # Panics
    /// Where the word is not inside: a bug of the caller, never input.
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8);
        // SAFETY: inside, aligned (checked above), lives as long as self, and only ever accessed atomically.
        unsafe { &*self.start.as_ptr().add(offset).cast() }
    }

    /// The 4-byte word at `offset`.
    ///
    /// # Panics
    /// Where the word is not inside.
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        // SAFETY: as for u64.
        unsafe { &*self.start.as_ptr().add(offset).cast() }
    }

    /// The 2-byte word at `offset`.
    ///
    /// # Panics
    /// Where the word is not inside.
    pub fn u16(&self, offset: usize) -> &AtomicU16 {
        self.check(offset, 2);
        // SAFETY: as for u64.
        unsafe { &*self.start.as_ptr().add(offset).cast() }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.owner {
            // SAFETY: the mapping made in `map`, unmapped once.
            Owner::Mapping => unsafe {
                libc::munmap(self.start.as_ptr().cast(), self.length);
            },
            // SAFETY: allocated in `heap` with this layout, freed once.
            Owner::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
        }
    }
}

/// An array of plain values in a region, laid out as the kernel lays out an array map: elements padded to 8 octets.
pub struct Array<T> {
    region: Region,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Plain> Array<T> {
    /// Distance between elements, octets.
    pub const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// A view of a region as `length` elements.
    ///
    /// # Panics
    /// Where the region is too small: a bug of the caller.
    pub fn new(region: Region, length: usize) -> Array<T> {
        assert!(region.length() >= length * Self::STRIDE);
        Array {
            region,
            length,
            element: PhantomData,
        }
    }

    /// A zeroed array on the heap.
    pub fn heap(length: usize) -> Array<T> {
        Array::new(Region::heap(length * Self::STRIDE), length)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads an element, each 8-byte word whole.
    pub fn get(&self, index: usize) -> T {
        assert!(index < self.length, "element {index} of {}", self.length);
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        let words = size_of::<T>() / 8;
        for word in 0..words {
            let loaded = self.word(index, word * 8).load(Ordering::Acquire);
            // SAFETY: `word * 8 + 8 <= size_of::<T>()`.
            unsafe {
                value
                    .as_mut_ptr()
                    .cast::<u8>()
                    .add(word * 8)
                    .cast::<u64>()
                    .write_unaligned(loaded)
            };
        }
        for offset in (words * 8..size_of::<T>()).step_by(4) {
            let loaded = self
                .region
                .u32(index * Self::STRIDE + offset)
                .load(Ordering::Acquire);
            // SAFETY: types of the ABI that are no multiple of 8 are a single u32.
            unsafe {
                value
                    .as_mut_ptr()
                    .cast::<u8>()
                    .add(offset)
                    .cast::<u32>()
                    .write_unaligned(loaded)
            };
        }
        // SAFETY: every octet was written, and any bit pattern of a Plain type is valid.
        unsafe { value.assume_init() }
    }

    /// Writes an element, each 8-byte word whole, the first word last: it holds what makes the rest count.
    pub fn set(&self, index: usize, value: &T) {
        assert!(index < self.length, "element {index} of {}", self.length);
        let source = std::ptr::from_ref(value).cast::<u8>();
        if size_of::<T>() == 4 {
            // SAFETY: four octets of the value.
            let word = unsafe { source.cast::<u32>().read_unaligned() };
            self.region
                .u32(index * Self::STRIDE)
                .store(word, Ordering::Release);
            return;
        }
        for word in (0..size_of::<T>() / 8).rev() {
            // SAFETY: inside the value.
            let stored = unsafe { source.add(word * 8).cast::<u64>().read_unaligned() };
            self.word(index, word * 8).store(stored, Ordering::Release);
        }
    }

    /// One 8-byte word of an element.
    pub fn word(&self, index: usize, offset: usize) -> &AtomicU64 {
        assert!(index < self.length, "element {index} of {}", self.length);
        self.region.u64(index * Self::STRIDE + offset)
    }

    /// The memory beneath.
    pub fn region(&self) -> &Region {
        &self.region
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwarder_common::{counters::Counter, nexthop::Group};

    #[test]
    fn elements_come_back_and_small_ones_keep_the_kernels_stride() {
        let counters: Array<Counter> = Array::heap(3);
        counters.set(2, &Counter { packets: 7, bytes: 9 });
        assert_eq!(counters.get(2), Counter { packets: 7, bytes: 9 });
        assert_eq!(counters.get(1), Counter::default());
        let groups: Array<Group> = Array::heap(2);
        groups.set(1, &Group::single(5));
        assert_eq!(groups.get(1), Group::single(5));
        assert_eq!(groups.region().u16(256 + 8).load(Ordering::Acquire), 5);
    }
}
