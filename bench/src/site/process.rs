//! A server as a child process: started in a namespace on its CPUs, watched, and killed when dropped.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::namespaces::inside;
use crate::report::Task;

/// How long a server may take to open its port.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at something that will be there soon.
const PAUSE: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    namespace: String,
    output: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` in `namespace`, on `cpus`; what it says goes to a file in `folder`,
    /// where Kea's variables say its files lie as well.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        namespace: &str,
        cpus: &[usize],
        program: &Path,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self> {
        let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        let mut command = inside(Some(namespace), Path::new("taskset"));
        command.arg("-c").arg(cpus.join(",")).arg(program).args(arguments);
        for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
            command.env(variable, folder);
        }
        let output = folder.join("output");
        let file = File::create(&output).with_context(|| format!("writing {}", output.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let name = program.display().to_string();
        let child = apart(&mut command).spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { child, name, namespace: namespace.to_owned(), output })
    }

    /// Its process number: the program took the place of what started it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it listens to clients.
    ///
    /// # Errors
    /// When it ends or takes too long.
    pub fn wait_for_port(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.listens()? {
            self.ensure_running()?;
            if start.elapsed() > PATIENCE {
                bail!("{} does not open its port: {}", self.name, self.said());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// A socket on port 67, or one that takes whole frames.
    fn listens(&self) -> Result<bool> {
        let mut command = inside(Some(&self.namespace), Path::new("cat"));
        let output = command.args(["/proc/net/udp", "/proc/net/packet"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let frames = text.lines().skip_while(|line| !line.starts_with("sk ")).nth(1).is_some();
        Ok(text.contains(":0043 ") || frames)
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With its status and its last words.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.said()),
            None => Ok(()),
        }
    }

    /// The last lines that it wrote.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Its threads, with the time that they have used; none where the kernel does not count it. A thread that ends
    /// takes its time with it; servers keep theirs.
    pub fn tasks(&self) -> Vec<Task> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks.into_iter().flatten().flatten().filter_map(|task| read_task(&task.path())).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then both calls fail and that is all right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of /proc/PID/task.
fn read_task(folder: &Path) -> Option<Task> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let name = fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
    let times = fs::read_to_string(folder.join("schedstat")).ok()?;
    let mut times = times.split_whitespace().map_while(|time| time.parse().ok());
    Some(Task { id, name, ran_ns: times.next()?, waited_ns: times.next()? })
}

/// A group of its own for a child: an interrupt from the terminal is for us, who then end it in order.
pub fn apart(command: &mut Command) -> &mut Command {
    command.process_group(0)
}
