//! Programs as child processes: output kept and waited on, ended on drop.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::secrets;

/// [`patience`], where nobody asked for more.
const PATIENCE: Duration = Duration::from_secs(60);
static PATIENCES: AtomicU32 = AtomicU32::new(1);
/// How long the last words of a program that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The same where nothing is awaited of them but that they hold no secret.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// How long a program may take to say that it is ready, or a step to happen: generous, for a loaded machine.
#[must_use]
pub fn patience() -> Duration {
    PATIENCE * PATIENCES.load(Ordering::Relaxed)
}

/// So many times as patient from now on: where gigabytes are moved.
pub fn be_patient(times: u32) {
    PATIENCES.store(times, Ordering::Relaxed);
}

/// Pause between two looks at a state that no event announces.
const POLL: Duration = Duration::from_millis(40);
/// Lines of output kept of one program; older ones are dropped.
const MAX_LINES: usize = 100_000;

/// Folder of the built programs: `DROVER_BIN_DIR`, or where this executable was built.
///
/// # Panics
/// If this executable cannot be found.
#[must_use]
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("DROVER_BIN_DIR") {
        return dir.into();
    }
    let mut dir = std::env::current_exe().expect("this executable has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir
}

/// Path of one built program.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn bin(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// Everything that programs have said in this process, for tests about what must never be said.
static HEARD: Mutex<String> = Mutex::new(String::new());

/// All that programs and commands have written so far, but for the commands whose output is a secret
/// (`add-device` and `new-code` print the code).
///
/// # Panics
/// If a reader panicked.
#[must_use]
pub fn heard() -> String {
    HEARD.lock().unwrap().clone()
}

/// Output lines of a running program, shared with the tasks that read them.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    dropped: usize,
    /// What a dropped line should not have said.
    leak: Option<String>,
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    /// Kept, because a child that has ended has none any more.
    started: u32,
    lines: Arc<Mutex<Lines>>,
    count: watch::Receiver<usize>,
}

impl Program {
    /// Starts a program; its output is kept, and copied to standard error if `DROVER_SHOW` is set.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        env: &[(&str, &str)],
    ) -> Self {
        Self::start_with(name, program, args, "", env)
    }

    /// The same with a few words on its standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        input: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let args: Vec<std::ffi::OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        secrets::learn_input(&words(&args), input);
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env(
            "RUST_LOG",
            std::env::var("DROVER_TEST_LOG").unwrap_or_else(|_| "info".into()),
        );
        command.envs(env.iter().copied());
        command.kill_on_drop(true).process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let started = child.id().expect("just started");
        STARTED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(started);
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        tokio::spawn(async move {
            // A program that refuses early closes its input: not an error of ours.
            let _ = stdin.write_all(input.as_bytes()).await;
        });
        let lines = Arc::new(Mutex::new(Lines::default()));
        let (sender, count) = watch::channel(0);
        let sender = Arc::new(sender);
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        tokio::spawn(collect(name.to_owned(), stdout, lines.clone(), sender.clone()));
        tokio::spawn(collect(name.to_owned(), stderr, lines.clone(), sender));
        Self {
            name: name.to_owned(),
            child,
            started,
            lines,
            count,
        }
    }

    /// Waits until it says that it serves.
    ///
    /// # Panics
    /// As [`Self::wait_line`].
    pub async fn wait_ready(&self) {
        let word = |line: &str| line.ends_with(" ready") || line.contains(" ready ");
        self.wait_line("it is ready", word).await;
    }

    /// Waits for a line for which `wanted` is true, among those said already and those to come.
    ///
    /// # Panics
    /// If it does not come within [`patience`] or the program ends first; the last lines are shown.
    pub async fn wait_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_line_after(0, what, wanted).await
    }

    /// Like [`Self::wait_line`], for lines after the first `mark` ones (see [`Self::mark`]).
    ///
    /// # Panics
    /// As there.
    pub async fn wait_line_after(&self, mark: usize, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut count = self.count.clone();
        let mut seen = mark;
        let search = async {
            loop {
                {
                    let lines = self.lines.lock().unwrap();
                    let from = seen.saturating_sub(lines.dropped).min(lines.lines.len());
                    if let Some(line) = lines.lines[from..].iter().find(|line| wanted(line)) {
                        return Some(line.clone());
                    }
                    seen = lines.dropped + lines.lines.len();
                }
                if count.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(patience(), search).await {
            Ok(Some(line)) => line,
            Ok(None) => panic!("{} ended before {what}:\n{}", self.name, self.tail()),
            Err(_) => panic!(
                "{}: {what} did not happen in {:?}:\n{}",
                self.name,
                patience(),
                self.tail()
            ),
        }
    }

    /// How many lines the program has said: a mark for [`Self::wait_line_after`].
    ///
    /// # Panics
    /// If a reader panicked.
    #[must_use]
    pub fn mark(&self) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.dropped + lines.lines.len()
    }

    /// All that it said and that is still kept.
    ///
    /// # Panics
    /// If a reader panicked.
    #[must_use]
    pub fn said(&self) -> String {
        self.lines.lock().unwrap().lines.join("\n")
    }

    fn tail(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines.lines[lines.lines.len().saturating_sub(40)..].join("\n")
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Kills it at once, as a power switch would (its own children are not touched).
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill -9");
        self.drain(LAST_LOOK).await;
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Panics
    /// If it does not end within [`patience`].
    pub async fn stop(mut self) -> std::process::ExitStatus {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(patience(), self.child.wait()).await {
            Ok(status) => {
                self.drain(LAST_LOOK).await;
                status.expect("wait")
            }
            Err(_) => panic!("{} does not end when asked to:\n{}", self.name, self.tail()),
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not within [`patience`].
    pub async fn wait(&mut self) -> std::process::ExitStatus {
        match tokio::time::timeout(patience(), self.child.wait()).await {
            Ok(status) => {
                self.drain(LAST_WORDS).await;
                self.check();
                status.expect("wait")
            }
            Err(_) => panic!("{} does not end:\n{}", self.name, self.tail()),
        }
    }

    /// What a program said last may still lie in its pipe when it has ended: waits until all of it is read.
    async fn drain(&self, patience: Duration) {
        let mut count = self.count.clone();
        let read = async { while count.changed().await.is_ok() {} };
        // A child that inherited the pipe may hold it open for longer; it is not waited for.
        let _ = tokio::time::timeout(patience, read).await;
    }

    /// Fails the test where a secret was said.
    fn check(&self) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, leak) = (lines.lines.join("\n"), lines.leak.clone());
        drop(lines);
        if let Some(leak) = leak
            && !std::thread::panicking()
        {
            panic!("{} wrote {leak}", self.name);
        }
        secrets::check(&self.name, &text);
    }
}

/// Programs that were started and not yet dropped.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Where a panic ends this process at once, as in a release build, nothing is dropped: tells every program that was
/// started to end, before.
pub fn end_all_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let started = STARTED
            .try_lock()
            .map(|started| started.clone())
            .unwrap_or_default();
        for pid in started {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
    }));
}

/// A program that is dropped is gone when this returns, so that its folder can be removed. What it said is held against
/// all [`secrets`].
impl Drop for Program {
    fn drop(&mut self) {
        let mut all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|started| *started != self.started);
        drop(all);
        let _ = self.child.start_kill();
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.check();
    }
}

async fn collect(
    name: String,
    stream: impl AsyncRead + Unpin,
    lines: Arc<Mutex<Lines>>,
    count: Arc<watch::Sender<usize>>,
) {
    let show = std::env::var_os("DROVER_SHOW").is_some();
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        if show {
            eprintln!("{name}| {line}");
        }
        {
            let mut heard = HEARD.lock().unwrap();
            heard.push_str(&line);
            heard.push('\n');
        }
        {
            let mut kept = lines.lock().unwrap();
            kept.lines.push(line);
            if kept.lines.len() > MAX_LINES {
                let old: Vec<String> = kept.lines.drain(..MAX_LINES / 2).collect();
                let leak = secrets::leak(&old.join("\n"));
                kept.leak = kept.leak.take().or(leak);
                kept.dropped += MAX_LINES / 2;
            }
        }
        count.send_modify(|count| *count += 1);
    }
}

/// What a command that ended printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have worked.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "it failed:\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is not JSON of that type.
    #[must_use]
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("not the JSON expected: {error}\n{}\n{}", self.stdout, self.stderr)
        })
    }

    /// The message of a command that must have failed.
    ///
    /// # Panics
    /// If it worked.
    #[must_use]
    #[track_caller]
    pub fn refused(&self) -> &str {
        assert_ne!(self.code, 0, "it worked, but must not:\n{}", self.stdout);
        assert!(!self.stderr.contains("panicked"), "it panicked:\n{}", self.stderr);
        &self.stderr
    }
}

/// Runs a script's work to its end, on this thread. Whatever ends it early, what it has started is ended too.
///
/// # Errors
/// Those of the work; it was interrupted or asked to end.
pub fn to_the_end<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    end_all_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("interrupted"),
        }
    })
}

/// Asks again and again until the answer is the one wanted: for states that no event announces.
///
/// # Panics
/// If it is not within [`patience`]; the last answer is shown.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F, wanted: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
    F: Future<Output = T>,
{
    let deadline = tokio::time::Instant::now() + patience();
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: still {answer:#?} after {:?}",
            patience()
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Runs a command to its end with `input` on its standard input.
///
/// # Panics
/// If it cannot be started or does not end within twice [`patience`].
pub async fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    input: &str,
    env: &[(&str, &str)],
) -> Output {
    let args: Vec<std::ffi::OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let words = words(&args);
    secrets::learn_input(&words, input);
    let prints_a_secret = words
        .first()
        .is_some_and(|word| word == "add-device" || word == "new-code");
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.envs(env.iter().copied());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("piped");
    // A command that refuses early closes its input: not an error of ours.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(2 * patience(), child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{} does not end", program.display()))
        .expect("output");
    let output = Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let mut heard = HEARD.lock().unwrap();
    if !prints_a_secret {
        heard.push_str(&output.stdout);
    }
    heard.push_str(&output.stderr);
    drop(heard);
    let name = program.file_name().unwrap_or(program.as_os_str());
    let name = format!("{} {}", name.display(), words.first().map_or("", String::as_str));
    if prints_a_secret {
        secrets::learn_codes(&output.stdout);
    } else {
        secrets::check(&name, &output.stdout);
    }
    secrets::check(&name, &output.stderr);
    output
}

fn words(args: &[std::ffi::OsString]) -> Vec<String> {
    args.iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}
