//! Bodies: by length, chunked, or up to the end of the connection.
//!
//! A decoder never holds more than its limit, however the sender cuts the bytes.

/// How much of the input was taken, and whether the body is whole.
#[derive(Debug, Eq, PartialEq)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// The body is whole.
    Whole,
}

/// Why a body was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// Chunk framing is broken.
    #[error("malformed chunked body")]
    Malformed,
    /// Longer than the limit.
    #[error("body too large")]
    TooLarge,
}

/// Longest chunk size line or trailer line, octets.
const LINE_OCTETS_MAX: usize = 256;
/// Trailer lines after the last chunk.
const TRAILERS_MAX: usize = 32;

/// One body being received.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    body: Vec<u8>,
    octets_max: usize,
}

#[derive(Debug)]
enum Framing {
    ChunkData { left: usize },
    ChunkEnd,
    ChunkSize { line: Vec<u8> },
    Length { left: usize },
    Trailer { line: Vec<u8>, count: usize },
    UntilEnd,
    Whole,
}

impl Decoder {
    /// A body of `length` octets.
    pub fn with_length(length: u64, octets_max: usize) -> Result<Self, BodyError> {
        let left =
            usize::try_from(length).ok().filter(|left| *left <= octets_max).ok_or(BodyError::TooLarge)?;
        let framing = if left == 0 { Framing::Whole } else { Framing::Length { left } };
        Ok(Self { framing, body: Vec::new(), octets_max })
    }

    /// A chunked body.
    pub fn chunked(octets_max: usize) -> Self {
        Self { framing: Framing::ChunkSize { line: Vec::new() }, body: Vec::new(), octets_max }
    }

    /// A body that ends with the connection.
    pub fn until_end(octets_max: usize) -> Self {
        Self { framing: Framing::UntilEnd, body: Vec::new(), octets_max }
    }

    /// Takes what it needs from the front of `input` and says whether the body is whole.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Progress, BodyError> {
        loop {
            if matches!(self.framing, Framing::Whole) {
                return Ok(Progress::Whole);
            }
            let Some(&octet) = input.first() else { return Ok(Progress::More) };
            match &mut self.framing {
                Framing::Length { left } | Framing::ChunkData { left } => {
                    let count = (*left).min(input.len());
                    self.body.extend_from_slice(&input[..count]);
                    *input = &input[count..];
                    *left -= count;
                    if *left == 0 {
                        let chunk = matches!(self.framing, Framing::ChunkData { .. });
                        self.framing = if chunk { Framing::ChunkEnd } else { Framing::Whole };
                    }
                }
                Framing::UntilEnd => {
                    if self.body.len() + input.len() > self.octets_max {
                        return Err(BodyError::TooLarge);
                    }
                    self.body.extend_from_slice(input);
                    *input = &[];
                }
                _ => {
                    *input = &input[1..];
                    self.take_framing_octet(octet)?;
                }
            }
        }
    }

    /// The connection has ended; whether that ends the body properly.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.framing, Framing::UntilEnd | Framing::Whole)
    }

    /// The body.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    fn take_framing_octet(&mut self, octet: u8) -> Result<(), BodyError> {
        match &mut self.framing {
            Framing::ChunkEnd => match octet {
                b'\r' => {}
                b'\n' => self.framing = Framing::ChunkSize { line: Vec::new() },
                _ => return Err(BodyError::Malformed),
            },
            Framing::ChunkSize { line } => {
                if octet != b'\n' {
                    return push_line(line, octet);
                }
                let size = chunk_size(line)?;
                if size > self.octets_max - self.body.len() {
                    return Err(BodyError::TooLarge);
                }
                self.framing = match size {
                    0 => Framing::Trailer { line: Vec::new(), count: 0 },
                    left => Framing::ChunkData { left },
                };
            }
            Framing::Trailer { line, count } => {
                if octet != b'\n' {
                    return push_line(line, octet);
                }
                *count += 1;
                if line.is_empty() || line == b"\r" {
                    self.framing = Framing::Whole;
                } else if *count > TRAILERS_MAX {
                    return Err(BodyError::Malformed);
                } else {
                    line.clear();
                }
            }
            Framing::ChunkData { .. } | Framing::Length { .. } | Framing::UntilEnd | Framing::Whole => {}
        }
        Ok(())
    }
}

fn push_line(line: &mut Vec<u8>, octet: u8) -> Result<(), BodyError> {
    if line.len() >= LINE_OCTETS_MAX {
        return Err(BodyError::Malformed);
    }
    line.push(octet);
    Ok(())
}

/// Hexadecimal size before an optional extension (RFC 9112 §7.1).
fn chunk_size(line: &[u8]) -> Result<usize, BodyError> {
    let digits = line.split(|octet| *octet == b';').next().unwrap_or(line).trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BodyError::Malformed);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BodyError::Malformed)?;
    usize::from_str_radix(text, 16).map_err(|_| BodyError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(
        mut decoder: Decoder,
        input: &[u8],
        step: usize,
    ) -> Result<(Progress, Vec<u8>, usize), BodyError> {
        let mut taken = 0;
        let mut progress = Progress::More;
        for piece in input.chunks(step) {
            let mut rest = piece;
            progress = decoder.take(&mut rest)?;
            taken += piece.len() - rest.len();
            if progress == Progress::Whole {
                break;
            }
        }
        Ok((progress, decoder.into_body(), taken))
    }

    #[test]
    fn a_chunked_body_is_joined_however_it_is_cut() {
        let input = b"4\r\nWiki\r\n6;name=x\r\npedia \r\n0\r\nTrailer: 1\r\n\r\nnext";
        for step in 1..input.len() {
            let (progress, body, taken) = decode(Decoder::chunked(100), input, step).unwrap();
            assert_eq!(
                (progress, body.as_slice(), taken),
                (Progress::Whole, &b"Wikipedia "[..], input.len() - 4)
            );
        }
    }

    #[test]
    fn broken_and_too_long_bodies_are_refused() {
        for (input, error) in [
            (&b"x\r\n"[..], BodyError::Malformed),
            (b"\r\n", BodyError::Malformed),
            (b"-1\r\n", BodyError::Malformed),
            (b"4\r\nWikiX", BodyError::Malformed),
            (b"65\r\n", BodyError::TooLarge),
            (b"ffffffffffffffff\r\n", BodyError::TooLarge),
            (b"fffffffffffffffff\r\n", BodyError::TooLarge),
        ] {
            assert_eq!(decode(Decoder::chunked(100), input, 3).unwrap_err(), error, "{input:?}");
        }
        assert_eq!(decode(Decoder::chunked(9999), &[b'1'; 400], 7).unwrap_err(), BodyError::Malformed);
        assert_eq!(Decoder::with_length(101, 100).unwrap_err(), BodyError::TooLarge);
        assert_eq!(decode(Decoder::until_end(3), b"abcd", 2).unwrap_err(), BodyError::TooLarge);
    }
}
