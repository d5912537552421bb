//! A cursor over the JSON that clients really send, for the hot calls. It
//! understands little and gives up (`None`) on everything else; the caller then
//! goes the long way through `serde_json`.

use memchr::memchr;

/// Where a body is read.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `body`.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Bytes from here to the end.
    pub(crate) fn left(&self) -> usize {
        self.body.len() - self.at
    }

    /// Whether nothing but space is left.
    pub(crate) fn is_done(&mut self) -> bool {
        self.space();
        self.at == self.body.len()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.body.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is not space, if it is this one.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.body.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// A comma (false) or the closing byte (true).
    #[inline]
    pub(crate) fn ends(&mut self, close: u8) -> Option<bool> {
        self.space();
        let byte = *self.body.get(self.at)?;
        self.at += 1;
        if byte == close { Some(true) } else { (byte == b',').then_some(false) }
    }

    /// The bytes between quotes, as they are. The caller compares them with a
    /// known word or decodes base64, so that an escape never passes.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        self.eat(b'"')?;
        let rest = self.body.get(self.at..)?;
        let length = memchr(b'"', rest)?;
        self.at += length + 1;
        Some(&rest[..length])
    }
}
