//! Templates, built from Debian's and PyPI's packages, and what runs in them. What is
//! built is kept for the next time in `.templates`.

use std::path::{Path, PathBuf};

use nh_compute::drivers::{Gvisor, GvisorSetup, HOME, Limits, Running, Spec};
use nh_compute::guest::Event;
use nh_compute::templates::{TemplateError, Templates};
use nh_guest::protocol::{Answer, Artifact, Ended, Language, Request, Run};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

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

async fn in_template(name: &str) -> (TempDir, Running) {
    need_root();
    let root = templates().build(name, |_| {}).await.expect("Debian's package mmdebstrap, and its registry");
    start(root).await
}

async fn start(root: PathBuf) -> (TempDir, Running) {
    let directory = TempDir::new().expect("a folder");
    let setup = GvisorSetup {
        program: "runsc".into(),
        directory: directory.path().join("compute"),
        tasks: TaskTracker::new(),
    };
    let driver = Gvisor::open(setup).await.expect("Debian's package runsc");
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", HOME), ("LANG", "C.UTF-8")];
    let spec = Spec {
        id: "one".to_owned(),
        root,
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        limits: Limits { memory_bytes: 1 << 30, cpus: 2.0, processes: 64, disk_bytes: 64 << 20 },
    };
    (directory, driver.start(&spec).await.expect("a sandbox"))
}

#[tokio::test]
async fn python_runs_in_its_template() {
    let (_directory, sandbox) = in_template("python").await;
    let told =
        run(&sandbox, Language::Python, "import sys\nx = 40\nprint(sys.version_info >= (3, 11))").await;
    assert_eq!((told.out.as_str(), told.ended.exit_code), ("True\n", 0));
    let told = run(&sandbox, Language::Python, "x + 2").await;
    assert_eq!(told.artifacts[0].data["text/plain"], "42");
    let told =
        run(&sandbox, Language::Bash, "pip --version | cut -d' ' -f1; whoami 2>&1 | tail -c 5; pwd").await;
    assert!(told.out.starts_with("pip\n") && told.out.ends_with("/home/user\n"), "{}", told.out);
    sandbox.stop().await.expect("stopped");
}

#[tokio::test]
async fn nodejs_runs_in_its_template() {
    let (_directory, sandbox) = in_template("nodejs").await;
    let told =
        run(&sandbox, Language::Nodejs, "const x = await Promise.resolve(40); console.log(x); undefined")
            .await;
    assert_eq!((told.out.as_str(), told.ended.exit_code), ("40\n", 0));
    let told = run(&sandbox, Language::Nodejs, "const x = 2; x + 40").await;
    assert_eq!(told.artifacts[0].data["text/plain"], "42");
    sandbox.stop().await.expect("stopped");
}

#[tokio::test]
async fn figures_and_tables_are_shown() {
    let (_directory, sandbox) = in_template("python-data").await;
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
    let left = std::fs::read_dir(&built).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}
