//! gzip of any number of members, as `gzip -d` reads it.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use crate::window::Window;

/// The contents of all members, one after another. Zeros behind the last one
/// are padding; anything else there is an error, and so is a member that does
/// not end or does not match its checksum and length.
pub(crate) struct Gunzip {
    /// `None` behind the last member.
    member: Option<GzDecoder<Window>>,
}

impl Gunzip {
    pub(crate) fn new(packed: Window) -> Self {
        Self { member: Some(GzDecoder::new(packed)) }
    }
}

impl Read for Gunzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let bytes = member.read(buffer)?;
            if bytes > 0 {
                return Ok(bytes);
            }
            // Its trailer was read and is right.
            if let Some(member) = self.member.take() {
                self.member = next_member(member.into_inner())?;
            }
        }
        Ok(0)
    }
}

/// The member that starts here, if one does.
fn next_member(mut packed: Window) -> io::Result<Option<GzDecoder<Window>>> {
    let mut padded = false;
    loop {
        let held = packed.fill_buf()?;
        if held.is_empty() {
            return Ok(None);
        }
        let zeros = held.iter().take_while(|byte| **byte == 0).count();
        if zeros < held.len() && (padded || zeros > 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is something behind the end of the gzip data",
            ));
        }
        if zeros == 0 {
            return Ok(Some(GzDecoder::new(packed)));
        }
        padded = true;
        packed.consume(zeros);
    }
}
