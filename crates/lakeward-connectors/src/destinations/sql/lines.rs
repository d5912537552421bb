//! Where the rows of a CSV file are: for cutting it, and for finding the row
//! that a server names by its line.

use std::ops::Range;

use bytes::Bytes;

/// A CSV file without a header, taken apart into rows.
#[derive(Debug)]
pub(crate) struct Rows {
    body: Bytes,
    /// Where each row ends in the body, and which line of the file its last
    /// one is, from 1.
    ends: Vec<(usize, u64)>,
}

impl Rows {
    /// Takes a file apart. What our encoder writes is well formed; from
    /// anything else come some rows, and no harm.
    pub(crate) fn of(body: Bytes) -> Self {
        let mut ends = Vec::new();
        let mut quoted = false;
        let mut line = 1;
        for (at, byte) in body.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' => {
                    if !quoted {
                        ends.push((at + 1, line));
                    }
                    line += 1;
                }
                _ => {}
            }
        }
        if ends.last().map_or(0, |(end, _)| *end) < body.len() {
            ends.push((body.len(), line));
        }
        Self { body, ends }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The bytes of these rows.
    pub(crate) fn cut(&self, rows: Range<u64>) -> Bytes {
        let end_of = |row: u64| {
            let before = usize::try_from(row).ok().and_then(|row| row.checked_sub(1));
            before.and_then(|row| self.ends.get(row)).map_or(0, |(end, _)| *end)
        };
        let (from, to) = (end_of(rows.start), end_of(rows.end.min(self.len())));
        self.body.slice(from.min(to)..to)
    }

    /// The row that has a line of the file, from 1. A row may be of several
    /// lines; it is found by any of them.
    pub(crate) fn at_line(&self, line: u64) -> Option<u64> {
        let row = self.ends.partition_point(|(_, last)| *last < line);
        (line > 0 && row < self.ends.len()).then_some(row as u64)
    }

    /// The first line of a row.
    pub(crate) fn line_of(&self, row: u64) -> u64 {
        let before = usize::try_from(row).ok().and_then(|row| row.checked_sub(1));
        before.and_then(|row| self.ends.get(row)).map_or(1, |(_, last)| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_where_they_end() {
        let rows = Rows::of(Bytes::from_static(b"1,\"a\nb\"\n2,\"\"\"\n\"\"\"\n3,c\n"));
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.cut(0..1), &b"1,\"a\nb\"\n"[..]);
        assert_eq!(rows.cut(1..3), &b"2,\"\"\"\n\"\"\"\n3,c\n"[..]);
        assert_eq!(rows.cut(3..3), &b""[..]);
        let by_line: Vec<_> = (0..=6).map(|line| rows.at_line(line)).collect();
        assert_eq!(by_line, [None, Some(0), Some(0), Some(1), Some(1), Some(2), None]);
        assert_eq!([0, 1, 2].map(|row| rows.line_of(row)), [1, 3, 5]);
    }

    #[test]
    fn a_file_may_be_empty_or_end_without_a_newline() {
        assert_eq!(Rows::of(Bytes::new()).len(), 0);
        let rows = Rows::of(Bytes::from_static(b"a\nb"));
        assert_eq!((rows.len(), rows.cut(1..2)), (2, Bytes::from_static(b"b")));
    }
}
