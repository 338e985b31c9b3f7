//! Rows as a JSON array with one row on each line: as good for `grep` as for `jq`.

use std::io::Write;

use serde::Serialize;

/// Writes an array piece by piece.
#[derive(Debug, Default)]
pub struct Rows {
    any: bool,
}

impl Rows {
    /// More rows.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn push<T: Serialize>(&mut self, out: &mut impl Write, rows: &[T]) -> serde_json::Result<()> {
        for row in rows {
            let before: &[u8] = if self.any { b",\n" } else { b"[" };
            out.write_all(before).map_err(serde_json::Error::io)?;
            serde_json::to_writer(&mut *out, row)?;
            self.any = true;
        }
        Ok(())
    }

    /// The end of the array.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn end(&mut self, out: &mut impl Write) -> serde_json::Result<()> {
        let end: &[u8] = if self.any { b"]\n" } else { b"[]\n" };
        out.write_all(end).map_err(serde_json::Error::io)
    }
}

/// Writes a whole array.
///
/// # Errors
/// Whatever the writer says.
pub fn write<T: Serialize>(out: &mut impl Write, rows: &[T]) -> serde_json::Result<()> {
    let mut array = Rows::default();
    array.push(out, rows)?;
    array.end(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn arrays_are_arrays_whatever_their_length() {
        for rows in [vec![], vec![1], vec![1, 2, 3]] {
            let mut out = Vec::new();
            super::write(&mut out, &rows).unwrap();
            assert_eq!(serde_json::from_slice::<Vec<i32>>(&out).unwrap(), rows);
        }
    }
}
