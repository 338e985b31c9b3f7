//! Columns of numbers, packed by pco.
//!
//! # The running day
//! A [`Block`] is what one interval, kind and block of [`BLOCK`] ids had: ids as differences, packets, octets.
//!
//! # Finished days
//! A [`Chunk`] is some series of one kind and block over a day, series by series: how many samples each has, how many intervals
//! lie between them, packets, and octets. What pco packs best is numbers that are alike, so series with like many samples and
//! like many packets share a chunk ([`chunks`]); inside a chunk they are in the order of their ids. Octets depend on packets: what
//! is kept is how far they are from packets times the mean size of the series' packets that day, which is small. All
//! arithmetic wraps, so whatever numbers there are come back.
//!
//! Measured on a synthetic full table (docs/history.md): 2.8 octets a sample, of which when it was is 0.4, packets 0.5, octets 1.7.

use pco::{
    ChunkConfig, DeltaSpec, ModeSpec,
    data_types::Number,
    standalone::{simple_compress, simple_decompress_into},
};

/// Ids in a block.
pub const BLOCK: u32 = 1 << 12;

/// Samples that a chunk is cut at: a chunk is read as a whole, and has some hundred octets of overhead.
const CHUNK: usize = 16 << 10;
/// From so many samples in a day series are put together by their size; below that, it would cost more than it saves.
const SORTED: u32 = 3;

/// Why a column cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    /// pco refuses it.
    #[error("a column cannot be unpacked: {0}")]
    Pco(String),
    /// It is longer or shorter than its row says.
    #[error("a column has not the {0} numbers that its row says")]
    Length(usize),
    /// Ids or intervals beyond the end.
    #[error("a column leads beyond its block")]
    Range,
}

/// What a series counted in an interval; `at` is the interval's place in its day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The series.
    pub id: u32,
    /// Place of the interval.
    pub at: u32,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

fn pack<T: Number>(numbers: &[T], delta: DeltaSpec) -> Result<Vec<u8>, Fault> {
    let config = ChunkConfig::default()
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(delta);
    simple_compress(numbers, &config).map_err(|why| Fault::Pco(why.to_string()))
}

fn unpack<T: Number + Default>(octets: &[u8], count: usize) -> Result<Vec<T>, Fault> {
    let mut numbers = vec![T::default(); count];
    let progress = simple_decompress_into(octets, &mut numbers).map_err(|why| Fault::Pco(why.to_string()))?;
    (progress.finished && progress.n_processed == count)
        .then_some(numbers)
        .ok_or(Fault::Length(count))
}

/// Ids in ascending order as differences: the first from the block's beginning, each other from the one before it.
fn differences(ids: impl Iterator<Item = u32>, from: u32) -> Vec<u32> {
    let mut before = from;
    ids.map(|id| id - std::mem::replace(&mut before, id)).collect()
}

/// Most numbers a row may speak of: what a block and a day can have.
const MOST: usize = BLOCK as usize * crate::write::MOST_INTERVALS as usize;

fn length(count: i64) -> Result<usize, Fault> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= MOST)
        .ok_or(Fault::Range)
}

/// A row of the running day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// How many samples.
    pub count: i64,
    /// Differences of ids.
    pub ids: Vec<u8>,
    /// Packets.
    pub packets: Vec<u8>,
    /// Octets.
    pub bytes: Vec<u8>,
}

impl Block {
    /// Packs samples of one block, in the order of their ids, each id once.
    ///
    /// # Errors
    /// pco refuses.
    pub fn pack(points: &[Point]) -> Result<Block, Fault> {
        let base = points.first().map_or(0, |point| point.id & !(BLOCK - 1));
        let packets: Vec<u64> = points.iter().map(|point| point.packets).collect();
        let bytes: Vec<u64> = points.iter().map(|point| point.bytes).collect();
        Ok(Block {
            count: points.len() as i64,
            ids: pack(
                &differences(points.iter().map(|point| point.id), base),
                DeltaSpec::NoOp,
            )?,
            packets: pack(&packets, DeltaSpec::NoOp)?,
            bytes: pack(&bytes, DeltaSpec::NoOp)?,
        })
    }

    /// The samples, of block number `block` and the interval at `at`.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn unpack(&self, block: u32, at: u32) -> Result<Vec<Point>, Fault> {
        let count = length(self.count)?;
        let ids = unpack::<u32>(&self.ids, count)?;
        let packets = unpack::<u64>(&self.packets, count)?;
        let bytes = unpack::<u64>(&self.bytes, count)?;
        let mut offset = 0u32;
        let mut points = Vec::with_capacity(count);
        for ((difference, packets), bytes) in ids.into_iter().zip(packets).zip(bytes) {
            offset = offset.checked_add(difference).ok_or(Fault::Range)?;
            points.push(Point {
                id: id(block, offset)?,
                at,
                packets,
                bytes,
            });
        }
        Ok(points)
    }
}

fn id(block: u32, offset: u32) -> Result<u32, Fault> {
    let base = block.checked_mul(BLOCK).ok_or(Fault::Range)?;
    (offset < BLOCK).then_some(base + offset).ok_or(Fault::Range)
}

/// Some series over a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many series.
    pub series: i64,
    /// How many samples.
    pub samples: i64,
    /// Differences of ids.
    pub ids: Vec<u8>,
    /// Samples of each series.
    pub counts: Vec<u8>,
    /// Mean octets of a packet of each series, rounded down.
    pub sizes: Vec<u8>,
    /// Intervals between samples of a series; the first of each from the day's beginning.
    pub gaps: Vec<u8>,
    /// Packets.
    pub packets: Vec<u8>,
    /// Octets, less packets times mean size.
    pub bytes: Vec<u8>,
}

/// Packs a block's samples of a day, which stand in order.
///
/// # Errors
/// pco refuses.
pub fn chunks(points: &[Point]) -> Result<Vec<Chunk>, Fault> {
    let mut series: Vec<&[Point]> = points.chunk_by(|a, b| a.id == b.id).collect();
    series.sort_by_cached_key(|points| {
        let often = (points.len() as u32).ilog2();
        let mean = if often >= SORTED {
            points.iter().map(|point| u128::from(point.packets)).sum::<u128>() / points.len() as u128
        } else {
            0
        };
        (often, mean, points[0].id)
    });
    let mut chunks = Vec::new();
    let mut rest = &mut series[..];
    while !rest.is_empty() {
        let often = rest[0].len().ilog2();
        let mut samples = 0;
        let end = rest.iter().position(|points| {
            samples += points.len();
            // Seldom seen series are put together; they are few numbers.
            samples - points.len() >= CHUNK
                || (points.len().ilog2() != often && samples - points.len() >= CHUNK / 8)
        });
        let (these, others) = rest.split_at_mut(end.unwrap_or(rest.len()));
        these.sort_unstable_by_key(|points| points[0].id);
        chunks.push(chunk(these)?);
        rest = others;
    }
    Ok(chunks)
}

fn chunk(series: &[&[Point]]) -> Result<Chunk, Fault> {
    let base = series[0][0].id & !(BLOCK - 1);
    let mut counts: Vec<u32> = Vec::with_capacity(series.len());
    let mut sizes: Vec<u64> = Vec::with_capacity(series.len());
    let mut gaps: Vec<u32> = Vec::new();
    let mut packets: Vec<u64> = Vec::new();
    let mut bytes: Vec<i64> = Vec::new();
    for points in series {
        let sum = |of: fn(&Point) -> u64| points.iter().map(|point| u128::from(of(point))).sum::<u128>();
        let size = sum(|point| point.bytes)
            .checked_div(sum(|point| point.packets))
            .map_or(0, |size| u64::try_from(size).unwrap_or(0));
        counts.push(points.len() as u32);
        sizes.push(size);
        gaps.extend(differences(points.iter().map(|point| point.at), 0));
        packets.extend(points.iter().map(|point| point.packets));
        bytes.extend(points.iter().map(|point| {
            point
                .bytes
                .wrapping_sub(point.packets.wrapping_mul(size))
                .cast_signed()
        }));
    }
    Ok(Chunk {
        series: series.len() as i64,
        samples: packets.len() as i64,
        ids: pack(
            &differences(series.iter().map(|points| points[0].id), base),
            DeltaSpec::NoOp,
        )?,
        counts: pack(&counts, DeltaSpec::NoOp)?,
        sizes: pack(&sizes, DeltaSpec::NoOp)?,
        gaps: pack(&gaps, DeltaSpec::NoOp)?,
        packets: pack(&packets, DeltaSpec::Auto)?,
        bytes: pack(&bytes, DeltaSpec::NoOp)?,
    })
}

/// Which series are in a chunk, from its column.
///
/// # Errors
/// It is damaged.
pub fn ids(octets: &[u8], series: i64, block: u32) -> Result<Vec<u32>, Fault> {
    let mut offset = 0u32;
    unpack::<u32>(octets, length(series)?)?
        .into_iter()
        .map(|difference| {
            offset = offset.checked_add(difference).ok_or(Fault::Range)?;
            id(block, offset)
        })
        .collect()
}

impl Chunk {
    /// Gives every sample of the series that are wanted.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn unpack(
        &self,
        block: u32,
        wanted: impl Fn(u32) -> bool,
        mut each: impl FnMut(Point),
    ) -> Result<(), Fault> {
        let (series, samples) = (length(self.series)?, length(self.samples)?);
        let ids = ids(&self.ids, self.series, block)?;
        let counts = unpack::<u32>(&self.counts, series)?;
        let sizes = unpack::<u64>(&self.sizes, series)?;
        let gaps = unpack::<u32>(&self.gaps, samples)?;
        let packets = unpack::<u64>(&self.packets, samples)?;
        let bytes = unpack::<i64>(&self.bytes, samples)?;
        let mut from = 0usize;
        for ((id, count), size) in ids.into_iter().zip(counts).zip(sizes) {
            let to = from
                .checked_add(count as usize)
                .filter(|to| *to <= samples)
                .ok_or(Fault::Range)?;
            if wanted(id) {
                let mut at = 0u32;
                for index in from..to {
                    at = at.checked_add(gaps[index]).ok_or(Fault::Range)?;
                    each(Point {
                        id,
                        at,
                        packets: packets[index],
                        bytes: bytes[index]
                            .cast_unsigned()
                            .wrapping_add(packets[index].wrapping_mul(size)),
                    });
                }
            }
            from = to;
        }
        (from == samples).then_some(()).ok_or(Fault::Length(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    fn all(chunks: &[Chunk], block: u32) -> Vec<Point> {
        let mut points = Vec::new();
        for chunk in chunks {
            chunk.unpack(block, |_| true, |point| points.push(point)).unwrap();
        }
        points.sort_unstable();
        points
    }

    #[test]
    fn a_day_comes_back_as_it_was_with_the_largest_numbers_there_are() {
        let mut seed = 7;
        let mut points = Vec::new();
        for id in 5 * BLOCK..6 * BLOCK {
            // Some always, most seldom.
            let often =
                1 + random(&mut seed) % (1 + u64::from(id % 97 == 0) * 287 + u64::from(id % 5 == 0) * 10);
            let mut at = 0;
            for _ in 0..often {
                at += 1 + (random(&mut seed) % (1 + 287 / often)) as u32;
                let packets = random(&mut seed) >> (random(&mut seed) % 64);
                let bytes = random(&mut seed) >> (random(&mut seed) % 64);
                points.push(Point {
                    id,
                    at,
                    packets,
                    bytes,
                });
            }
        }
        let packed = chunks(&points).unwrap();
        assert!(packed.len() > 1);
        assert_eq!(all(&packed, 5), points);
        // One alone, and only that.
        let mut one = Vec::new();
        for chunk in &packed {
            chunk
                .unpack(5, |id| id == 5 * BLOCK + 97, |point| one.push(point))
                .unwrap();
        }
        let expected: Vec<_> = points
            .iter()
            .filter(|p| p.id == 5 * BLOCK + 97)
            .copied()
            .collect();
        assert_eq!(one, expected);
    }

    #[test]
    fn an_interval_comes_back_as_it_was() {
        let points: Vec<Point> = [0, 1, 7, BLOCK - 1]
            .map(|id| Point {
                id: 2 * BLOCK + id,
                at: 3,
                packets: u64::MAX - u64::from(id),
                bytes: u64::from(id),
            })
            .into();
        assert_eq!(Block::pack(&points).unwrap().unpack(2, 3).unwrap(), points);
    }

    #[test]
    fn damaged_columns_are_errors_and_nothing_worse() {
        let points: Vec<Point> = (0..500)
            .map(|n| Point {
                id: n / 5,
                at: n % 5,
                packets: u64::from(n) * 77,
                bytes: u64::from(n) * 7_777,
            })
            .collect();
        let packed = chunks(&points).unwrap();
        let whole = &packed[0];
        let mut seed = 3;
        let mut refused = 0;
        for _ in 0..2_000 {
            let mut chunk = whole.clone();
            let column = match random(&mut seed) % 6 {
                0 => &mut chunk.ids,
                1 => &mut chunk.counts,
                2 => &mut chunk.sizes,
                3 => &mut chunk.gaps,
                4 => &mut chunk.packets,
                _ => &mut chunk.bytes,
            };
            let place = random(&mut seed) as usize % column.len();
            match random(&mut seed) % 3 {
                0 => column.truncate(place),
                1 => column[place] ^= 1 << (random(&mut seed) % 8),
                _ => column[place] = random(&mut seed) as u8,
            }
            refused += usize::from(chunk.unpack(0, |_| true, |_| ()).is_err());
        }
        assert!(refused > 500, "{refused} of 2,000 were noticed");
        for (series, samples) in [(i64::MAX, 500), (-1, 500), (100, i64::MAX), (100, 499), (99, 500)] {
            let chunk = Chunk {
                series,
                samples,
                ..whole.clone()
            };
            assert!(chunk.unpack(0, |_| true, |_| ()).is_err(), "{series} {samples}");
        }
    }
}
