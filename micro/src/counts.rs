//! Counting: this program runs itself under valgrind, which dumps a profile for each case, and reads those.
//!
//! What makes a count the same everywhere: valgrind shows one and the same processor to every program; the C
//! library is told to leave out what not every processor has, since it would choose its `memcpy` by that; the
//! address space is laid out the same way each time; and the code is what `rust-toolchain.toml` makes of it.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

use crate::cases::{self, GROUPS};
use crate::sys::valgrind;
use crate::table::{TOLERANCE, Table};

const USAGE: &str = "\
Counts the instructions of single steps of the packet path, and of whole exchanges, under valgrind.

    cargo micro [-- OPTION...]      and every case timed as well: cargo bench -p tandem-micro

  --accept       put what is counted on record, in micro/counts.txt
  --check        fail where a count is more than 3 % above the record, or a large table makes exchanges longer
  --keep FOLDER  leave callgrind's profiles there, one for each case, for callgrind_annotate
  --only PART    only cases with PART in their name
  --help         this text
";

/// The record.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.txt");

/// What stands above the record.
const HEADING: &str = "\
Instructions of one unit of each case. Counted and written by
    cargo micro --accept
and checked by tests/run: more than 3 % above these is a fault there.";

/// How the child that runs under valgrind is told so.
const MEASURE: &str = "--measure";

/// What the program is asked to do.
#[derive(Debug, Default)]
struct Wishes {
    accept: bool,
    check: bool,
    keep: Option<PathBuf>,
    only: String,
}

/// The program: reads its arguments, counts, prints, compares.
pub fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tandem-micro: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<ExitCode> {
    let mut wishes = Wishes::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--accept" => wishes.accept = true,
            "--check" => wishes.check = true,
            "--keep" => wishes.keep = Some(value()?.into()),
            "--only" => wishes.only = value()?,
            // Said by `cargo bench` to every benchmark.
            "--bench" => {}
            MEASURE => {
                measure(&value()?);
                return Ok(ExitCode::SUCCESS);
            }
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            other => bail!("what is {other:?}?\n\n{USAGE}"),
        }
    }
    ensure!(
        wishes.only.is_empty() || !(wishes.accept || wishes.check),
        "--only has no say in --accept and --check"
    );
    ensure!(cfg!(target_arch = "x86_64"), "counts are kept for x86-64 alone, and this is none");
    let kept = match fs::read_to_string(RECORD) {
        Ok(text) => Table::parse(&text).map_err(|line| anyhow::anyhow!("{RECORD}: what is {line:?}?"))?,
        Err(_) => Table::default(),
    };
    let counted = count(&wishes)?;
    print(&kept, &counted);
    if wishes.accept {
        fs::write(RECORD, counted.render(HEADING)).with_context(|| RECORD.to_owned())?;
        println!("\nwritten to {RECORD}");
    }
    Ok(if wishes.check { judge(&kept, &counted) } else { ExitCode::SUCCESS })
}

/// Runs the chosen cases under valgrind, and reads what it wrote.
fn count(wishes: &Wishes) -> Result<Table> {
    let scratch = tempfile::tempdir()?;
    let folder = wishes.keep.as_deref().unwrap_or(scratch.path());
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let program = env::current_exe()?;
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--instr-atstart=no", "--quiet"])
        .arg(format!("--callgrind-out-file={}", folder.join("profile").display()))
        .arg(program)
        .args([MEASURE, &wishes.only])
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM")
        .stdin(Stdio::null())
        .status()
        .context("valgrind cannot be started (on Debian it is in the package valgrind)")?;
    ensure!(status.success(), "valgrind ended with {status}");
    let mut counted = Table::default();
    for (nth, name) in cases::names().filter(|name| name.contains(&wishes.only)).enumerate() {
        let dump = folder.join(format!("profile.{}", nth + 1));
        let (found, total) = read_profile(&dump)?;
        let (case, units) = found.rsplit_once(' ').with_context(|| format!("{found:?} names no case"))?;
        ensure!(case == name, "{} is about {case}, not {name}", dump.display());
        let units: u64 = units.parse()?;
        counted.insert(name, total.div_ceil(units));
        if wishes.keep.is_some() {
            fs::rename(&dump, folder.join(name.replace('/', "-")))?;
        }
    }
    Ok(counted)
}

/// The trigger of a profile and its count.
fn read_profile(path: &Path) -> Result<(String, u64)> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.with_context(|| format!("{} has no {key:?}", path.display()))
    };
    let name = field("desc: Trigger: Client Request: ")?;
    Ok((name.to_owned(), field("totals: ")?.trim().parse()?))
}

/// Under valgrind: runs every case with `only` in its name.
fn measure(only: &str) {
    assert!(valgrind::is_running(), "{MEASURE} is for valgrind");
    for (_, make) in GROUPS.iter().filter(|(names, _)| names.iter().any(|name| name.contains(only))) {
        for mut case in make() {
            (0..case.warm).for_each(|_| (case.step)());
            if case.name.contains(only) {
                let trigger = CString::new(format!("{} {}", case.name, case.steps * case.units));
                let trigger = trigger.expect("a name has no zero");
                valgrind::count(&trigger, || (0..case.steps).for_each(|_| (case.step)()));
            }
        }
    }
}

fn print(kept: &Table, counted: &Table) {
    println!("{:<34} {:>12} {:>12}", "instructions", "now", "on record");
    for (name, count) in counted.iter() {
        match kept.get(name) {
            Some(kept) => {
                let percent = (count as f64 / kept as f64 - 1.0) * 100.0;
                println!("{name:<34} {count:>12} {kept:>12} {percent:>+7.1} %");
            }
            None => println!("{name:<34} {count:>12} {:>12}", "-"),
        }
    }
}

fn judge(kept: &Table, counted: &Table) -> ExitCode {
    let cheaper = |name: &str, count: u64| {
        kept.get(name).is_some_and(|kept| (count as f64) < kept as f64 * (1.0 - TOLERANCE))
    };
    let cheaper: Vec<&str> =
        counted.iter().filter(|&(name, count)| cheaper(name, count)).map(|(name, _)| name).collect();
    if !cheaper.is_empty() {
        println!("\ncheaper than on record, so that a loss could hide there: {}", cheaper.join(", "));
        println!("`cargo micro --accept` keeps the gain");
    }
    let faults = kept.faults(counted);
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\nthe packet path costs more than on record:");
    faults.iter().for_each(|fault| eprintln!("  {fault}"));
    eprintln!(
        "\nWhere: `cargo micro --keep FOLDER --only NAME`, then callgrind_annotate of the file in FOLDER, before\n\
         and after the change.\n\
         On purpose: `cargo micro --accept`, and the reason in the commit."
    );
    ExitCode::FAILURE
}
