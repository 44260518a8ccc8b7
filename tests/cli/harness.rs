//! Processes in a directory of their own, with a bound on every wait.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A hang is a failure, not a wait for whoever runs the tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory to run commands in.
pub(crate) struct Place(TempDir);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command that runs. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    what: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.start(args).end()
    }

    /// The same with variables of the environment.
    #[track_caller]
    pub(crate) fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Done {
        self.start_with(env, args).end()
    }

    /// The same with standard input.
    #[track_caller]
    pub(crate) fn run_on(&self, input: &str, args: &[&str]) -> Done {
        let mut running = self.start(args);
        let mut stdin = running.child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        running.end()
    }

    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_with(&[], args)
    }

    pub(crate) fn start_with(&self, env: &[(&str, &str)], args: &[&str]) -> Running {
        self.start_onto(env, args, Stdio::piped(), Stdio::piped())
    }

    /// A command with these outputs. What goes elsewhere than to a pipe of the harness is empty here.
    pub(crate) fn start_onto(
        &self,
        env: &[(&str, &str)],
        args: &[&str],
        out: Stdio,
        err: Stdio,
    ) -> Running {
        let command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        self.spawn(command, env, args, out, err)
    }

    /// A development server on free ports with these limits of open files, once it is up.
    pub(crate) fn serve_with_files(&self, soft: u32, hard: u32, env: &[(&str, &str)]) -> Running {
        self.serve_limited(&format!("ulimit -Sn {soft} && ulimit -Hn {hard}"), env)
    }

    /// A development server on free ports with a limit of its address space, in KiB, once it is up.
    pub(crate) fn serve_within(&self, kibibytes: u64, env: &[(&str, &str)]) -> Running {
        self.serve_limited(&format!("ulimit -v {kibibytes}"), env)
    }

    fn serve_limited(&self, limits: &str, env: &[(&str, &str)]) -> Running {
        let mut command = Command::new("sh");
        let limited = format!("{limits} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_tidings")]);
        let args = [
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ];
        let server = self.spawn(command, env, &args, Stdio::piped(), Stdio::piped());
        server.out_until("tidings notify 42");
        server
    }

    fn spawn(
        &self,
        mut command: Command,
        env: &[(&str, &str)],
        args: &[&str],
        out: Stdio,
        err: Stdio,
    ) -> Running {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(args)
            .envs(env.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        Running {
            out: child.stdout.take().map_or_else(|| channel().1, lines),
            err: child.stderr.take().map_or_else(|| channel().1, lines),
            child,
            what: format!("tidings {}", args.join(" ")),
        }
    }

    /// A development server on free ports, once it is up.
    pub(crate) fn serve(&self) -> Running {
        self.serve_with(&[], &[])
    }

    pub(crate) fn serve_with(&self, env: &[(&str, &str)], more: &[&str]) -> Running {
        let mut args = vec!["serve", "--dev"];
        if !more.contains(&"--listen") {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        args.extend(["--http", "127.0.0.1:0"]);
        args.extend(more);
        let server = self.start_with(env, &args);
        server.out_until("tidings notify 42");
        server
    }

    /// `server.json`.
    pub(crate) fn server(&self) -> Value {
        serde_json::from_str(&self.read("certs/dev/server.json")).unwrap()
    }

    /// One of the addresses in it.
    pub(crate) fn address(&self, name: &str) -> String {
        self.server()[name].as_str().unwrap().to_owned()
    }

    /// A subscriber, once it is subscribed.
    pub(crate) fn sub(&self, args: &[&str]) -> Running {
        let mut all = vec!["sub"];
        all.extend(args);
        let running = self.start(&all);
        running.err_until("subscribed to ");
        running
    }
}

impl Done {
    /// It did what it was asked to, without a word on standard error.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            (self.code, self.err.as_str()),
            (Some(0), ""),
            "{}",
            self.out
        );
        self.out
    }

    /// It failed with this code, nothing on standard output, and one line that holds all of `wanted`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, wanted: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.starts_with("tidings: "), "{self:?}");
        for text in wanted {
            assert!(self.err.contains(text), "{text:?} is missing in {self:?}");
        }
    }
}

impl Running {
    /// The next line of standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.out.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                let err: Vec<_> = self.err.try_iter().collect();
                panic!("{}: no line ({error}); standard error: {err:?}", self.what)
            }
        }
    }

    /// The next line of standard error.
    #[track_caller]
    pub(crate) fn err_line(&self) -> String {
        self.err.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line of standard output, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Reads standard output up to a line with this text.
    #[track_caller]
    pub(crate) fn out_until(&self, text: &str) -> String {
        self.until(&self.out, &self.err, text)
    }

    /// Reads standard error up to a line with this text.
    #[track_caller]
    pub(crate) fn err_until(&self, text: &str) -> String {
        self.until(&self.err, &self.out, text)
    }

    #[track_caller]
    fn until(&self, from: &Receiver<String>, other: &Receiver<String>, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match from.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => {
                    let other: Vec<_> = other.try_iter().collect();
                    panic!(
                        "{}: no {text:?} ({error}) in {seen:?}; the other output: {other:?}",
                        self.what
                    )
                }
            }
        }
    }

    /// Its exit code, if it has ended: None while it runs, -1 after a signal.
    pub(crate) fn exited(&mut self) -> Option<i32> {
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or(-1))
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Done {
        let deadline = Instant::now() + PATIENCE;
        let rest = |from: &Receiver<String>| {
            let mut text = String::new();
            loop {
                match from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(line) => text += &(line + "\n"),
                    Err(RecvTimeoutError::Disconnected) => return text,
                    Err(RecvTimeoutError::Timeout) => panic!("{} does not end: {text}", self.what),
                }
            }
        };
        // Both close when the process is over.
        let (out, err) = (rest(&self.out), rest(&self.err));
        let code = self.child.wait().unwrap().code();
        Done { code, out, err }
    }

    /// Writes to its standard input, which stays open.
    pub(crate) fn type_in(&self, text: &str) {
        let mut stdin = self.child.stdin.as_ref().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it, and to nothing else.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success(), "kill -s {name} {pid}");
    }

    /// Closes its standard output, as a reader that has seen enough.
    pub(crate) fn close_out(&mut self) {
        // The thread that reads holds the pipe, and ends with its channel at the next line.
        let (_, nothing) = channel();
        self.out = nothing;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// The lower nine bits of a file's mode.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
