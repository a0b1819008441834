//! Templates, built from Debian's and PyPI's packages, and what runs in them. What is
//! built is kept for the next time in `.templates`.

use std::path::Path;

use nh_compute::DriverChoice;
use nh_compute::drivers::{Driver, HOME, Limits, Running, Spec};
use nh_compute::guest::Event;
use nh_compute::templates::{Said, TemplateError, Templates};
use nh_guest::protocol::{Answer, Artifact, Ended, Language, Request, Run};
use nh_types::{Clock, SystemClock};
use tempfile::TempDir;

use crate::drivers::{open, settings};
use crate::need_root;

fn templates() -> Templates {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.templates");
    std::fs::create_dir_all(&directory).expect("a folder");
    Templates::open(directory.canonicalize().expect("a path"), None).expect("the hub's own")
}

struct Told {
    out: String,
    artifacts: Vec<Artifact>,
    ended: Ended,
}

async fn run(sandbox: &Running, language: Language, code: &str) -> Told {
    let run = Run {
        language,
        code: code.to_owned(),
        stdin: String::new(),
        timeout_ms: 60_000,
        max_output: 4 << 20,
    };
    let mut stream = sandbox.guest.open(Request::Run(run)).expect("open");
    let (mut out, mut artifacts) = (Vec::new(), Vec::new());
    loop {
        match stream.next().await.expect("an event") {
            Event::Out(bytes) | Event::Error(bytes) => out.extend_from_slice(&bytes),
            Event::Artifact(artifact) => artifacts.push(artifact),
            Event::Answer(Answer::Ended(ended)) => {
                return Told { out: String::from_utf8(out).expect("text"), artifacts, ended };
            }
            other => panic!("{other:?}"),
        }
    }
}

const DRIVERS: [DriverChoice; 3] = [DriverChoice::Gvisor, DriverChoice::Process, DriverChoice::Microvm];

async fn spec(template: &str) -> Spec {
    let built = templates().build(template, |_| {}).await;
    let root = built.expect("Debian's package mmdebstrap, and its registry");
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", HOME), ("LANG", "C.UTF-8")];
    Spec {
        id: "one".to_owned(),
        root,
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        limits: Limits { memory_bytes: 1 << 30, cpus: 2.0, processes: 64, disk_bytes: 64 << 20 },
    }
}

async fn in_template(driver: DriverChoice, name: &str) -> (TempDir, Driver, Running) {
    need_root();
    let directory = TempDir::new().expect("a folder");
    let driver = open(&settings(driver), directory.path()).await.expect("what scripts/setup test installs");
    let running = driver.start(&spec(name).await).await.expect("a sandbox");
    (directory, driver, running)
}

#[tokio::test]
async fn python_runs_in_its_template() {
    for driver in DRIVERS {
        let (_directory, _driver, sandbox) = in_template(driver, "python").await;
        let told =
            run(&sandbox, Language::Python, "import sys\nx = 40\nprint(sys.version_info >= (3, 11))").await;
        assert_eq!((told.out.as_str(), told.ended.exit_code), ("True\n", 0));
        let told = run(&sandbox, Language::Python, "x + 2").await;
        assert_eq!(told.artifacts[0].data["text/plain"], "42");
        // Processes of its own, threads, a server and its client.
        let code = "import concurrent.futures as f, http.server as h, threading, urllib.request as u\n\
                    server = h.ThreadingHTTPServer(('127.0.0.1', 8080), h.SimpleHTTPRequestHandler)\n\
                    threading.Thread(target=server.serve_forever, daemon=True).start()\n\
                    with f.ProcessPoolExecutor(2) as pool: print(list(pool.map(abs, [-1, -2])))\n\
                    print(u.urlopen('http://127.0.0.1:8080/').status)";
        let told = run(&sandbox, Language::Python, code).await;
        assert!(told.out.contains("[1, 2]\n") && told.out.contains("200\n"), "{driver:?}: {}", told.out);
        let told =
            run(&sandbox, Language::Bash, "pip --version | cut -d' ' -f1; whoami 2>&1 | tail -c 5; pwd")
                .await;
        assert!(told.out.starts_with("pip\n") && told.out.ends_with("/home/user\n"), "{}", told.out);
        sandbox.stop().await.expect("stopped");
    }
}

#[tokio::test]
async fn nodejs_runs_in_its_template() {
    for driver in DRIVERS {
        let (_directory, _driver, sandbox) = in_template(driver, "nodejs").await;
        let code = "const x = await Promise.resolve(40); console.log(x); undefined";
        let told = run(&sandbox, Language::Nodejs, code).await;
        assert_eq!((told.out.as_str(), told.ended.exit_code), ("40\n", 0), "{driver:?}");
        let told = run(&sandbox, Language::Nodejs, "const x = 2; x + 40").await;
        assert_eq!(told.artifacts[0].data["text/plain"], "42");
        sandbox.stop().await.expect("stopped");
    }
}

/// A process of the host asks its kernel for nothing but what programs use every day.
#[tokio::test]
async fn system_calls_that_no_program_needs_are_none() {
    let (_directory, _driver, sandbox) = in_template(DriverChoice::Process, "python").await;
    let code = "import ctypes, errno, platform, socket\n\
                libc = ctypes.CDLL(None, use_errno=True)\n\
                x86 = platform.machine() == 'x86_64'\n\
                def call(*arguments):\n    ctypes.set_errno(0)\n    libc.syscall(*arguments)\n    \
                return errno.errorcode.get(ctypes.get_errno(), 'none')\n\
                numbers = dict(unshare=272, mount=165, bpf=321, ptrace=101, keyctl=250, io_uring_setup=425, \
                userfaultfd=323, clone3=435) if x86 else dict(unshare=97, mount=40, bpf=280, ptrace=117, \
                keyctl=219, io_uring_setup=425, userfaultfd=282, clone3=435)\n\
                told = {call(number, 0, 0, 0, 0, 0) for number in numbers.values()}\n\
                told.add(call(56 if x86 else 220, 0x10000000, 0, 0, 0, 0))\n\
                for family, kind, protocol in ((2, 1, 132), (2, 3, 1), (16, 3, 12), (40, 1, 0), (17, 3, 0)):\n\
                \x20   told.add(call(41 if x86 else 198, family, kind, protocol))\n\
                told.add(call(16 if x86 else 29, 0, 0x5412, 0))\n\
                print(told, socket.if_nameindex())";
    let told = run(&sandbox, Language::Python, code).await;
    assert_eq!(told.out, "{'ENOSYS'} [(1, 'lo')]\n");
    sandbox.stop().await.expect("stopped");
}

/// What copies of a machine have of it, and what each has for itself.
#[tokio::test]
async fn copies_of_a_machine_share_nothing_that_they_make() {
    need_root();
    let directory = TempDir::new().expect("a folder");
    let driver = open(&settings(DriverChoice::Microvm), directory.path()).await.expect("QEMU");
    let Driver::Microvm(microvm) = driver else { panic!("{driver:?}") };
    let spec = spec("python").await;
    let warm = async |running: &Running| {
        let told = run(running, Language::Python, "import os, random, time\nkept = 42").await;
        assert_eq!(told.ended.exit_code, 0, "{}", told.out);
        Ok(())
    };
    let snapshot = microvm.save(&spec, warm).await.expect("saved");
    let other = Spec { limits: Limits { memory_bytes: 2 << 30, ..spec.limits }, ..spec.clone() };
    assert!(snapshot.is_of(&spec) && !snapshot.is_of(&other));
    let mut told = Vec::new();
    for id in ["one", "two"] {
        let copy = microvm.restore(&snapshot, &Spec { id: id.to_owned(), ..spec.clone() }).await;
        let copy = copy.expect("a copy");
        let has = "print(kept, os.path.exists('file'), abs(time.time() - NOW) < 60)";
        let now = SystemClock.now().as_millis() / 1000;
        let out = run(&copy, Language::Python, &has.replace("NOW", &now.to_string())).await.out;
        assert_eq!(out, "42 False True\n");
        run(&copy, Language::Python, "kept = 0; open('file', 'w').close()").await;
        told.push(run(&copy, Language::Python, "print(os.urandom(16).hex())").await.out);
        copy.stop().await.expect("stopped");
    }
    assert_ne!(told[0], told[1], "the kernel's random numbers");
}

#[tokio::test]
async fn figures_and_tables_are_shown() {
    let (_directory, _driver, sandbox) = in_template(DriverChoice::Gvisor, "python-data").await;
    let told = run(
        &sandbox,
        Language::Python,
        "import matplotlib.pyplot as plt, numpy as np, pandas as pd\nplt.plot(np.arange(5) ** 2)\n\
         pd.DataFrame({'a': [1, 2]})",
    )
    .await;
    assert_eq!(told.ended.exit_code, 0, "{}", told.out);
    let table = &told.artifacts[0];
    assert!(table.is_result && table.data["text/html"].contains("<table"), "{table:?}");
    assert!(told.artifacts[1].data["image/png"].starts_with("iVBORw0KGgo"), "a PNG in base64");
    let told = run(&sandbox, Language::Python, "plt.plot([1, 2])\nplt.show()\nplt.get_fignums()").await;
    assert!(told.artifacts[0].data.contains_key("image/png"));
    assert_eq!(told.artifacts[1].data["text/plain"], "[]");
    sandbox.stop().await.expect("stopped");
}

#[tokio::test]
async fn recipes_that_cannot_be_used_are_named() {
    let own = TempDir::new().expect("a folder");
    let opened = |recipe: &str| {
        let folder = own.path().join("mine");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("recipe.toml"), recipe).expect("written");
        Templates::open(own.path().join("built"), Some(own.path()))
    };
    let recipe = |more: &str| format!("description = \"x\"\nsuite = \"bookworm\"\n{more}");
    for (text, wanted) in [
        (recipe("debian = [\"a; rm -rf /\"]"), "`debian`: `a; rm -rf /` is no name of a package"),
        (recipe("debian = [\"-o\"]"), "`debian`: `-o` is no name of a package"),
        (recipe("debian = []\npypi = [\"$(id)\"]"), "`pypi`: `$(id)` is no name of a package"),
        (recipe("debian = []\nnpm = []"), "unknown field `npm`"),
        (recipe("debian = []").replace("bookworm", "../x"), "`suite`: `../x` is no release of Debian"),
    ] {
        let error = opened(&text).expect_err("it is refused").to_string();
        assert!(error.starts_with("the recipe of template `mine` cannot be used: "), "{error}");
        assert!(error.contains(wanted), "{error}");
    }
    let templates = opened(&recipe("debian = [\"hello\"]\npypi = [\"six==1.16.0\"]")).expect("a good one");
    let names: Vec<&str> = templates.recipes().map(|(name, _)| name).collect();
    assert_eq!(names, ["mine", "nodejs", "python", "python-data"]);
    assert_eq!(templates.root("mine").expect("known"), None);
    let error = templates.root("none").expect_err("unknown");
    assert!(matches!(error, TemplateError::Unknown { .. }));
    let wanted = "there is no template `none`; there are `mine`, `nodejs`, `python`, `python-data`";
    assert_eq!(error.to_string(), wanted);
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_leaves_nothing() {
    let own = TempDir::new().expect("a folder");
    let folder = own.path().join("recipes/mine");
    std::fs::create_dir_all(&folder).expect("a folder");
    let recipe = "description = \"x\"\nsuite = \"no-such-release\"\ndebian = []";
    std::fs::write(folder.join("recipe.toml"), recipe).expect("written");
    let built = own.path().join("built");
    let templates = Templates::open(built.clone(), Some(&own.path().join("recipes"))).expect("recipes");
    let error = templates.build("mine", |_| {}).await.expect_err("there is no such release").to_string();
    assert!(error.starts_with("template `mine` could not be built: mmdebstrap ended with"), "{error}");
    // What is for the next time.
    let is_kept = |name: &str| name.ends_with(".lock") || name.ends_with(".downloads");
    let left = std::fs::read_dir(&built).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = left.filter(|name| !is_kept(&name.to_string_lossy())).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_build_that_broke_off_goes_on_with_what_it_had() {
    need_root();
    let own = TempDir::new().expect("a folder");
    let folder = own.path().join("recipes/mine");
    std::fs::create_dir_all(&folder).expect("a folder");
    let recipe = "description = \"x\"\nsuite = \"bookworm\"\ndebian = [\"hello\"]";
    std::fs::write(folder.join("recipe.toml"), recipe).expect("written");
    let built = own.path().join("built");
    let templates = Templates::open(built.clone(), Some(&own.path().join("recipes"))).expect("recipes");
    let has_downloaded = tokio::sync::Notify::new();
    let said = |said: &Said<'_>| {
        if said.line.starts_with("I: extracting archives") {
            has_downloaded.notify_one();
        }
    };
    tokio::select! {
        ended = templates.build("mine", said) => panic!("{ended:?}"),
        () = has_downloaded.notified() => {}
    }
    let downloads = || {
        let entries =
            std::fs::read_dir(&built).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.into_iter().find(|path| path.to_string_lossy().ends_with(".downloads"))
    };
    let kept = std::fs::read_dir(downloads().expect("downloads").join("debian")).expect("a folder");
    let kept =
        kept.filter(|entry| entry.as_ref().is_ok_and(|one| one.path().extension() == Some("deb".as_ref())));
    assert!(kept.count() > 50, "what it had");
    let mut last = 0;
    let root = templates.build("mine", |said: &Said<'_>| last = said.percent).await.expect("built");
    assert!(root.join("usr/bin/hello").exists() && root.join("home/user").exists());
    assert_eq!(std::fs::read_to_string(root.join("etc/hostname")).expect("a file"), "sandbox\n");
    assert_eq!((last, downloads()), (100, None));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains(own.path().to_str().expect("text")), "{mounts}");
}
