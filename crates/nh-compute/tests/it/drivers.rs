//! Sandboxes of every driver that this host has: escapes, abuse, and what is left.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nh_compute::drivers::{Driver, HOME, HostSetup, Limits, Running, Spec, StartError, make_folders};
use nh_compute::guest::{Event, GuestError, Stream};
use nh_compute::templates::Templates;
use nh_compute::{ComputeSettings, DriverChoice};
use nh_guest::protocol::{Answer, Ended, Execute, Killed, Request};
use nh_types::SystemClock;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::need_root;

/// Each of these with each driver.
macro_rules! on_every_driver {
    ($($test:ident),+ $(,)?) => {
        on_every_driver!(mod gvisor, DriverChoice::Gvisor, $($test),+);
        on_every_driver!(mod process, DriverChoice::Process, $($test),+);
        on_every_driver!(mod microvm, DriverChoice::Microvm, $($test),+);
    };
    (mod $name:ident, $driver:expr, $($test:ident),+) => {
        mod $name {
            use nh_compute::DriverChoice;
            $(#[tokio::test] async fn $test() { super::$test($driver).await; })+
        }
    };
}

on_every_driver!(
    a_sandbox_runs_commands_as_nobody_and_leaves_nothing,
    nothing_of_the_host_can_be_reached,
    what_takes_too_much_is_ended_by_name,
    what_a_killed_hub_leaves_is_removed,
);

struct Host {
    settings: ComputeSettings,
    driver: Option<Driver>,
    directory: TempDir,
    root: PathBuf,
}

pub(crate) async fn open(settings: &ComputeSettings, directory: &Path) -> Result<Driver, String> {
    let kernel = match settings.driver {
        DriverChoice::Microvm => {
            let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.templates");
            let templates = Templates::open(templates, None).expect("templates");
            Some(templates.build_kernel(|_| {}).await.expect("a kernel"))
        }
        _ => None,
    };
    let setup = HostSetup {
        directory: directory.join("compute"),
        tasks: TaskTracker::new(),
        clock: Arc::new(SystemClock),
        stopping: CancellationToken::new(),
    };
    Driver::open(settings, kernel.as_deref(), setup).await
}

pub(crate) fn settings(driver: DriverChoice) -> ComputeSettings {
    ComputeSettings { driver, allow_process: true, ..ComputeSettings::default() }
}

/// With a system of one program, Debian's busybox-static.
async fn host(driver: DriverChoice) -> Host {
    need_root();
    let directory = TempDir::new().expect("a folder");
    let root = directory.path().join("root");
    make_folders(&root).await.expect("folders");
    std::fs::create_dir_all(root.join("bin")).expect("a folder");
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("Debian's package busybox-static");
    for name in
        ["sh", "cat", "ls", "sleep", "dd", "id", "env", "touch", "wc", "tail", "kill", "nc", "ps", "mknod"]
    {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    let settings = settings(driver);
    let driver = Some(open(&settings, directory.path()).await.expect("what scripts/setup test installs"));
    Host { settings, driver, directory, root }
}

impl Host {
    fn spec(&self, id: &str) -> Spec {
        Spec {
            id: id.to_owned(),
            root: self.root.clone(),
            env: BTreeMap::from([
                ("PATH".to_owned(), "/bin".to_owned()),
                ("HOME".to_owned(), HOME.to_owned()),
            ]),
            limits: Limits { memory_bytes: 128 << 20, cpus: 1.0, processes: 32, disk_bytes: 4 << 20 },
        }
    }

    async fn start(&self, id: &str) -> Running {
        self.try_to_start(id).await.expect("a sandbox")
    }

    async fn try_to_start(&self, id: &str) -> Result<Running, StartError> {
        self.driver.as_ref().expect("a driver").start(&self.spec(id)).await
    }

    fn left(&self) -> Vec<String> {
        let sandboxes = std::fs::read_dir(self.directory.path().join("compute/sandboxes")).expect("a folder");
        sandboxes.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    /// Processes of the host that have this host's directory in their arguments.
    fn processes(&self) -> usize {
        let wanted = self.directory.path().to_str().expect("text").as_bytes().to_vec();
        let entries = std::fs::read_dir("/proc").expect("proc").flatten();
        let arguments = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        arguments.filter(|arguments| arguments.windows(wanted.len()).any(|part| part == wanted)).count()
    }
}

fn begin(sandbox: &Running, script: &str) -> Stream {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let execute = Execute { command, has_stdin: false, timeout_ms: 60_000, max_output: 1 << 20 };
    sandbox.guest.open(Request::Execute(execute)).expect("open")
}

async fn hear(mut stream: Stream) -> Result<(String, Ended), GuestError> {
    let mut told = Vec::new();
    loop {
        match stream.next().await? {
            Event::Out(bytes) | Event::Error(bytes) => told.extend_from_slice(&bytes),
            Event::Answer(Answer::Ended(ended)) => {
                return Ok((String::from_utf8(told).expect("text"), ended));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn run(sandbox: &Running, script: &str) -> (String, i32) {
    let (told, ended) = hear(begin(sandbox, script)).await.expect("it ends");
    (told, ended.exit_code)
}

/// What killed a command, or its whole sandbox.
async fn ended_by(sandbox: &mut Running, script: &str) -> Option<Killed> {
    match hear(begin(sandbox, script)).await {
        Ok((_, ended)) => ended.killed,
        Err(GuestError::Gone) => sandbox.ended().await.killed,
        Err(error) => panic!("{error}"),
    }
}

async fn a_sandbox_runs_commands_as_nobody_and_leaves_nothing(driver: DriverChoice) {
    let host = host(driver).await;
    let sandbox = host.start("one").await;
    let (told, code) = run(&sandbox, "id -u; pwd").await;
    let (user, home) = told.split_once('\n').expect("two lines");
    // A process of the host is of a user that nobody there has.
    let is_its = |user: u32| if driver == DriverChoice::Process { user > 0x7000_0000 } else { user == 1000 };
    assert!(is_its(user.parse().expect("a number")), "{told}");
    assert_eq!((home, code), (format!("{HOME}\n").as_str(), 0));
    let (told, _) = run(&sandbox, "env").await;
    let mut variables: Vec<&str> = told.lines().collect();
    variables.sort_unstable();
    assert_eq!(variables, ["HOME=/home/user", "PATH=/bin", "PWD=/home/user", "SHLVL=1"]);
    assert_eq!(run(&sandbox, "echo kept > file; cat file").await, ("kept\n".to_owned(), 0));
    let (told, code) = run(&sandbox, "touch /bin/x").await;
    assert!(code == 1 && (told.contains("Read-only") || told.contains("denied")), "{told}");
    let again = host.try_to_start("one").await;
    assert!(matches!(again, Err(StartError::Files(_))), "its name is taken");
    assert_eq!(run(&sandbox, "cat file").await, ("kept\n".to_owned(), 0));
    let other = host.start("two").await;
    assert_eq!(run(&other, "ls -A").await, (String::new(), 0), "each has its own files");
    assert!(host.processes() > 0);
    sandbox.stop().await.expect("stopped");
    assert_eq!(host.left(), ["two"]);
    assert_eq!(run(&other, "echo on").await, ("on\n".to_owned(), 0));
    other.stop().await.expect("stopped");
    assert_eq!((host.left(), host.processes()), (Vec::new(), 0));
}

async fn nothing_of_the_host_can_be_reached(driver: DriverChoice) {
    let host = host(driver).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let sandbox = host.start("one").await;
    // Its own processes alone, and no way to the guest.
    let (told, _) =
        run(&sandbox, "for p in /proc/[0-9]*; do cat $p/cmdline | dd bs=16 count=1 2>/dev/null; echo; done")
            .await;
    let first = if driver == DriverChoice::Microvm { "/init" } else { "/.neuralhub/gues" };
    assert!(told.starts_with(first), "{told}");
    // Those of a machine's kernel have no arguments.
    assert!(told.lines().filter(|line| !line.is_empty()).count() <= 5, "{told}");
    for script in [
        "kill -9 1",
        "echo x > /proc/1/fd/1",
        "cat /proc/1/mem",
        "mknod disk b 8 0; cat disk",
        "mknod memory c 1 1; cat memory",
        &format!("echo x | nc -w 2 127.0.0.1 {port}"),
        "nc -w 2 1.1.1.1 53 </dev/null",
        "ls /proc/1/root/.neuralhub/../work",
        "echo x > /.neuralhub/guest",
    ] {
        let (told, code) = run(&sandbox, script).await;
        assert_ne!(code, 0, "{script}: {told}");
    }
    let (told, code) = run(&sandbox, "cat /proc/1/environ").await;
    assert!(
        told == "HOME=/\0" || (code == 1 && told.contains("denied")),
        "the guest's own, which is nothing: {told}"
    );
    let (told, _) = run(&sandbox, "ls -A / /home /root /etc 2>/dev/null; cat /proc/mounts").await;
    assert!(!told.contains(host.directory.path().to_str().expect("text")), "{told}");
    assert_eq!(run(&sandbox, "echo on").await, ("on\n".to_owned(), 0));
    sandbox.stop().await.expect("stopped");
}

async fn what_takes_too_much_is_ended_by_name(driver: DriverChoice) {
    let host = host(driver).await;
    let mut sandbox = host.start("disk").await;
    let (told, code) = run(&sandbox, "dd if=/dev/zero of=big bs=1000000 count=100; ls -A; wc -c < big").await;
    assert!(told.contains("No space left on device"), "{code}: {told}");
    assert_eq!(run(&sandbox, "echo on").await, ("on\n".to_owned(), 0));
    // As many processes as there may be, and more.
    let many =
        "for i in 1 2 3 4 5 6; do for j in 1 2 3 4 5 6; do sleep 600 & done; done; sleep 600".to_owned();
    assert_eq!(ended_by(&mut sandbox, &many).await, Some(Killed::Processes));
    assert_eq!(run(&sandbox, "echo on").await, ("on\n".to_owned(), 0));
    // What grows faster than the guest looks ends its sandbox, and no other, as does what
    // multiplies faster.
    let hog = "exec tail -c 400000000 < /dev/zero";
    assert_eq!(ended_by(&mut sandbox, hog).await, Some(Killed::Memory));
    sandbox.stop().await.expect("stopped");
    // Those that ended, and for which nobody waits, count too.
    let swarm = "batch() { j=0; while [ $j -lt 20 ]; do sleep 0.3 & j=$((j + 1)); done; exec sleep 600; }
                 i=0; while [ $i -lt 10 ]; do batch & sleep 1; i=$((i + 1)); done; sleep 600";
    let mut sandbox = host.start("swarm").await;
    assert_eq!(ended_by(&mut sandbox, swarm).await, Some(Killed::Processes));
    sandbox.stop().await.expect("stopped");
    let (mut bomb, calm) = (host.start("bomb").await, host.start("calm").await);
    assert_eq!(ended_by(&mut bomb, "b() { b | b & }; b; sleep 600").await, Some(Killed::Processes));
    assert_eq!(run(&calm, "echo on").await, ("on\n".to_owned(), 0));
    calm.stop().await.expect("stopped");
    bomb.stop().await.expect("stopped");
    assert_eq!((host.left(), host.processes()), (Vec::new(), 0));
}

async fn what_a_killed_hub_leaves_is_removed(driver: DriverChoice) {
    let mut host = host(driver).await;
    let sandbox = host.start("left").await;
    // As if nobody had ended it: its processes go on, as far as anybody knows.
    std::mem::forget(sandbox);
    assert!(host.processes() > 0);
    let error = open(&host.settings, host.directory.path()).await.expect_err("it is in use");
    assert!(error.contains("another process has its sandboxes in "), "{error}");
    host.driver = None;
    open(&host.settings, host.directory.path()).await.expect("opened again");
    assert_eq!((host.left(), host.processes()), (Vec::new(), 0));
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let directory = TempDir::new().expect("a folder");
    let told = async |settings| open(&settings, directory.path()).await.expect_err("there is none");
    let missing = ComputeSettings { runsc: "no-such-runsc".into(), ..settings(DriverChoice::Gvisor) };
    let said = told(missing.clone()).await;
    assert!(said.starts_with("gvisor: the program `no-such-runsc` cannot be started"), "{said}");
    assert!(said.ends_with("install Debian's package runsc, or gVisor"), "{said}");
    let said = told(ComputeSettings { runsc: "/bin/false".into(), ..settings(DriverChoice::Gvisor) }).await;
    assert!(said.contains("ended before it was ready"), "{said}");
    let said = told(ComputeSettings { allow_process: false, ..settings(DriverChoice::Process) }).await;
    assert!(said.contains("set [compute] allow_process = true"), "{said}");
    // All that was tried, each once, and never what needs leave.
    let said = told(ComputeSettings { driver: DriverChoice::Auto, ..missing }).await;
    assert!(said.contains("gvisor: ") && said.contains("microvm: its kernel is not there yet"), "{said}");
    assert!(!said.contains("process: "), "{said}");
    assert_eq!(said.matches("microvm: its kernel").count(), 1, "{said}");
}
