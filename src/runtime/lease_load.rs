//! Reading the files of a lease database: in pieces, on every CPU, without ever holding a file in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use shards::journal::row::Layout;
use shards::journal::{FileRole, FilesFound, Piece, Recovering, Recovery, piece};
use shards::partition::LoadedRows;
use shards::sys::lock;

use super::lease_file::{LeaseFileError, failed, read_if_there, role_path, text};
use super::parallel;

/// Octets of a file that a thread reads at a time: what stays in its cache between being copied and being read.
const PIECE_OCTETS: u64 = 1 << 20;

/// Octets read beyond a piece to find the end of its last line; a row has about a hundred.
const LINE_OCTETS: u64 = 4096;

/// Octets in which the first header is looked for.
const HEADER_OCTETS: u64 = 64 * 1024;

/// What the files of a database say.
pub(super) struct Read {
    /// Rows of every piece, oldest first.
    pub rows: Vec<LoadedRows>,
    /// What was found.
    pub recovery: Recovery,
    /// Octets of `X` that were read, up to its last whole line.
    pub octets: u64,
}

/// How the pieces are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    /// By as many threads as there are CPUs: nobody is served yet.
    Fast,
    /// By the calling thread alone, beside a server at work.
    Gentle,
}

/// One file, opened.
struct Source {
    role: FileRole,
    file: File,
    octets: u64,
    /// Under which its rows probably stand.
    layout: Option<Layout>,
}

/// Reads the database at `path`, of `X` no more than `until` octets.
pub(super) fn read(path: &Path, max_row_errors: u32, until: u64, pace: Pace) -> Result<Read, LeaseFileError> {
    let mut sources = Vec::new();
    for role in [FileRole::Completed, FileRole::Cleaned, FileRole::Previous, FileRole::Current] {
        sources.extend(open(path, role, until)?);
    }
    let octets = |role| sources.iter().find(|source| source.role == role).map(|source| source.octets);
    let pid = read_if_there(&role_path(path, FileRole::Pid))?.map(|text| {
        let number = String::from_utf8_lossy(&text).trim().parse().unwrap_or(0);
        lock::process_exists(number)
    });
    let found = FilesFound {
        current: octets(FileRole::Current),
        previous: octets(FileRole::Previous),
        cleaned: octets(FileRole::Cleaned),
        completed: octets(FileRole::Completed),
        output: role_path(path, FileRole::Output).exists(),
        pid_alive: pid,
    };
    let refused = |cause| LeaseFileError::Contents { path: text(path), cause };
    let mut recovering = Recovering::new(found, max_row_errors).map_err(refused)?;
    let mut rows = Vec::new();
    let mut buffer = Vec::new();
    for role in recovering.order() {
        recovering.begin(role);
        let Some(source) = sources.iter().find(|source| source.role == role) else { continue };
        let pieces = source.octets.div_ceil(PIECE_OCTETS) as usize;
        let kept = recovering.bad_rows_kept();
        let one = |buffer: &mut Vec<u8>, index: usize| {
            let layout = source.layout.filter(|_| index > 0);
            source.read_piece(index as u64, layout, kept, buffer)
        };
        let read: Vec<io::Result<_>> = match pace {
            Pace::Fast => parallel::map(pieces, one).map_err(failed("reading", path))?,
            Pace::Gentle => (0..pieces).map(|index| one(&mut buffer, index)).collect(),
        };
        for (index, piece) in read.into_iter().enumerate() {
            let (mut piece, mut piece_rows) = piece.map_err(failed("reading", path))?;
            if index > 0 && source.layout != recovering.layout() {
                // Another header came in between, or none at all: what was assumed does not hold.
                (piece, piece_rows) = source
                    .read_piece(index as u64, recovering.layout(), kept, &mut buffer)
                    .map_err(failed("reading", path))?;
            }
            recovering.add(&piece).map_err(refused)?;
            rows.push(piece_rows);
        }
    }
    let recovery = recovering.finish();
    Ok(Read { rows, octets: recovery.current_octets, recovery })
}

fn open(path: &Path, role: FileRole, until: u64) -> Result<Option<Source>, LeaseFileError> {
    let path = role_path(path, role);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opening", &path)(error)),
    };
    let octets = file.metadata().map_err(failed("looking at", &path))?.len();
    let octets = if role == FileRole::Current { octets.min(until) } else { octets };
    let mut beginning = Vec::new();
    read_range(&file, 0, octets.min(HEADER_OCTETS), &mut beginning).map_err(failed("reading", &path))?;
    let layout = piece::first_layout(&beginning);
    Ok(Some(Source { role, file, octets, layout }))
}

impl Source {
    /// The rows of the lines that begin in piece `index`; `bytes` is kept for its capacity.
    fn read_piece(
        &self,
        index: u64,
        layout: Option<Layout>,
        bad_kept: usize,
        bytes: &mut Vec<u8>,
    ) -> io::Result<(Piece, LoadedRows)> {
        let from = index * PIECE_OCTETS;
        let until = (from + PIECE_OCTETS).min(self.octets);
        // An octet before the piece tells whether it begins with a line.
        let start = from.saturating_sub(1);
        bytes.clear();
        let mut end = (until + LINE_OCTETS).min(self.octets);
        let lines = loop {
            read_range(&self.file, start + bytes.len() as u64, end, bytes)?;
            match piece::lines_within(bytes, from, until, end == self.octets) {
                Some(lines) => break lines,
                None => end = (end + (end - start)).min(self.octets),
            }
        };
        let mut rows = LoadedRows::default();
        let mut push = |row: shards::journal::Row| rows.push(&row.lease, row.deleted);
        let piece = piece::read(&bytes[lines], layout, bad_kept, &mut push);
        Ok((piece, rows))
    }
}

/// Appends octets `from..until` of `file` to `bytes`.
fn read_range(file: &File, from: u64, until: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let held = bytes.len();
    bytes.resize(held + until.saturating_sub(from) as usize, 0);
    file.read_exact_at(&mut bytes[held..], from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shards::journal::{LeaseFiles, ReplayError, recover};
    use shards::partition::{Deletions, RowOrder};

    use super::*;

    const TWELVE: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n";
    const ELEVEN: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n";

    /// `count` rows of addresses from `first` on, with a host name that makes them `octets` long.
    fn rows(first: u32, count: u32, octets: usize, end: &str) -> String {
        let address = |number: u32| std::net::Ipv4Addr::from(0x0a00_0000 + number);
        let row = |number: u32| {
            let head = format!("{},02:00:00:00:00:01,,3600,1700003600,1,0,0,", address(number));
            let hostname = "h".repeat(octets.saturating_sub(head.len() + end.len() + 3));
            format!("{head}{hostname},0{end}\n")
        };
        (first..first + count).map(row).collect()
    }

    /// Addresses and host names, in the end.
    fn leases(rows: &[LoadedRows]) -> Vec<(std::net::Ipv4Addr, usize)> {
        let order = RowOrder::new(rows, Deletions::Drop);
        let parts: Vec<LoadedRows> = (0..order.parts()).map(|part| order.gather(rows, part)).collect();
        let parts = parts.iter().flat_map(LoadedRows::iter);
        parts.map(|row| (row.address(), row.lease().hostname.len())).collect()
    }

    /// A file read in pieces by threads says what the same file read at once does.
    #[test]
    fn a_file_of_many_pieces_is_read_as_if_it_were_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let piece = PIECE_OCTETS as usize;
        let joined = [TWELVE, &rows(0, 20_000, 110, ",,0"), ELEVEN, &rows(10_000, 30_000, 90, ",")].concat();
        for (what, text) in [
            ("no row", TWELVE.to_owned()),
            ("rows", TWELVE.to_owned() + &rows(0, 30_000, 100, ",,0")),
            (
                "bad rows and a torn one",
                [TWELVE, &rows(0, 30_000, 100, ",,0").replace("2.0.0.", "x."), "10.0"].concat(),
            ),
            ("another header in the middle", joined),
            (
                "a header after NULs",
                ["\0".repeat(2 * piece).as_str(), "\n", TWELVE, &rows(0, 30_000, 100, ",,0")].concat(),
            ),
            (
                "a line as long as three pieces",
                [TWELVE, &rows(0, 9000, 100, ",,0"), &rows(3, 2, 3 * piece, ",,0"), &rows(9, 3, 99, ",,0")]
                    .concat(),
            ),
        ] {
            fs::write(&path, &text).unwrap();
            let mut whole = LoadedRows::default();
            let files = LeaseFiles { current: Some(text.as_bytes()), ..LeaseFiles::default() };
            let recovery = recover(&files, 0, |row| whole.push(&row.lease, row.deleted)).unwrap();
            let expected = leases(&[whole]);
            for pace in [Pace::Fast, Pace::Gentle] {
                let read = read(&path, 0, u64::MAX, pace).unwrap();
                assert_eq!(read.recovery, recovery, "{what}");
                assert!(leases(&read.rows) == expected, "{what}: other leases");
            }
        }
    }

    #[test]
    fn the_row_that_is_one_bad_row_too_many_is_named_by_its_line_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.csv");
        let text = [TWELVE, "x\n", &rows(0, 30_000, 100, ",,0"), "y\n", "z\n"].concat();
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path, 3, u64::MAX, Pace::Fast).unwrap().recovery.bad_rows, 3);
        let error = read(&path, 1, u64::MAX, Pace::Fast).err();
        let Some(LeaseFileError::Contents { cause: ReplayError::TooManyBadRows { line, .. }, .. }) = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(line, 30_003);
    }
}
