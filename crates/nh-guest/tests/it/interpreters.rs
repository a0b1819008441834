//! Interpreters that are kept from one piece of code to the next.

use nh_guest::protocol::Language::{Bash, Nodejs, Python};
use nh_guest::protocol::{Killed, Request, Run};

use crate::host::{Host, of};

#[test]
fn python_keeps_its_state_and_shows_the_last_value() {
    let mut host = Host::start();
    let told = host.run(Python, "import math\nx = 20\ndef double(n): return 2 * n\nprint('hi')");
    assert_eq!((told.out.as_str(), told.ended().exit_code, told.texts().len()), ("hi\n", 0, 0));
    let told = host.run(Python, "y = double(x) + math.floor(2.5)\ny");
    assert_eq!(told.texts(), ["42"]);
    assert!(told.artifacts[0].is_result);
    assert_eq!(host.run(Python, "_ + 1").texts(), ["43"]);
    assert!(host.run(Python, "None").artifacts.is_empty());
    let told = host.run(Python, "display('a', [1])\nf'{x:>4}'");
    assert_eq!(told.texts(), ["'a'", "[1]", "'  20'"]);
    let file = host.run(Python, "file = open('kept', 'w'); file.write('abc')");
    assert_eq!(file.texts(), ["3"]);
    host.run(Python, "file.close()");
    assert_eq!(host.execute(&["cat", "kept"]).out, "abc");
}

#[test]
fn python_shows_values_in_their_forms() {
    let mut host = Host::start();
    let told = host.run(
        Python,
        "class Table:\n    def _repr_html_(self): return '<table>'\n    def _repr_png_(self): return b'\\x89PNG'\n\
         class Bundle:\n    def _repr_mimebundle_(self): return {'application/json': {'a': 1}}\n\
         display(Table())\nBundle()",
    );
    assert_eq!(told.ended().exit_code, 0, "{told:?}");
    assert_eq!(told.artifacts[0].data["text/html"], "<table>");
    assert_eq!(told.artifacts[0].data["image/png"], "iVBORw==");
    assert_eq!(told.artifacts[1].data["application/json"], r#"{"a": 1}"#);
}

#[test]
fn python_says_what_went_wrong() {
    let mut host = Host::start();
    let told = host.run(Python, "x = 1\ndef f():\n    return x / 0\nf()");
    assert_eq!(told.ended().exit_code, 1);
    let wanted = "Traceback (most recent call last):\n  File \"<code 1>\", line 4, in <module>\n    f()\n";
    assert!(told.error.starts_with(wanted), "{}", told.error);
    assert!(told.error.ends_with("ZeroDivisionError: division by zero\n"), "{}", told.error);
    let told = host.run(Python, "x = = 1");
    assert!(told.error.contains("SyntaxError"), "{}", told.error);
    assert_eq!(host.run(Python, "x").texts(), ["1"], "what was kept is still there");
    let told = host.run(Python, "import sys\nsys.exit(7)");
    assert_eq!((told.ended().exit_code, told.ended().state_reset), (7, false));
    assert_eq!(host.run(Python, "x").texts(), ["1"]);
}

#[test]
fn a_fork_that_comes_to_the_end_is_no_second_interpreter() {
    let mut host = Host::start();
    assert_eq!(host.run(Python, "import os\nx = os.fork()\nNone").ended().exit_code, 0);
    for number in 0..5 {
        assert_eq!(host.run(Python, &format!("{number} if x else 'the fork'")).texts(), [number.to_string()]);
    }
}

#[test]
fn nodejs_keeps_its_state_and_waits_for_promises() {
    let mut host = Host::start();
    let told = host.run(Nodejs, "const x = 20; function double(n) { return 2 * n }; console.log('hi')");
    assert_eq!((told.out.as_str(), told.ended().exit_code, &told.error[..]), ("hi\n", 0, ""));
    assert!(told.artifacts.is_empty(), "{told:?}");
    let told = host.run(Nodejs, "const y = await Promise.resolve(double(x) + 2); y");
    assert_eq!(told.texts(), ["42"], "{told:?}");
    assert_eq!(host.run(Nodejs, "const x = 5; ({ x, list: [1] })").texts(), ["{ x: 5, list: [ 1 ] }"]);
    let told = host.run(Nodejs, "require('node:os').EOL");
    assert_eq!(told.texts(), ["'\\n'"]);
    assert_eq!(host.run(Nodejs, "10n ** 2n").texts(), ["100n"]);
    assert_eq!(host.run(Nodejs, "-0").texts(), ["-0"]);
}

#[test]
fn nodejs_says_what_went_wrong() {
    let mut host = Host::start();
    host.run(Nodejs, "var kept = 1");
    for (code, wanted) in [
        ("null.x", "TypeError: Cannot read properties of null"),
        ("throw 'text'", "text"),
        ("await Promise.reject(new Error('late'))", "Error: late"),
        ("let = = 1", "SyntaxError"),
    ] {
        let told = host.run(Nodejs, code);
        assert_eq!(told.ended().exit_code, 1, "{code}");
        assert!(told.error.contains(wanted), "{code}: {}", told.error);
        assert!(!told.ended().state_reset, "{code}");
    }
    assert_eq!(host.run(Nodejs, "kept").texts(), ["1"]);
    let told = host.run(Nodejs, "process.exit(4)");
    assert_eq!((told.ended().exit_code, told.ended().state_reset), (4, true));
    assert_eq!(host.run(Nodejs, "typeof kept").texts(), ["'undefined'"]);
}

#[test]
fn bash_keeps_its_state() {
    let mut host = Host::start();
    host.run(Bash, "x=20; double() { echo $((2 * $1)); }; mkdir -p inner; cd inner");
    let told = host.run(Bash, "double $x; basename \"$PWD\"; false");
    assert_eq!((told.out.as_str(), told.ended().exit_code), ("40\ninner\n", 1), "{told:?}");
    // Loops of its own end their own.
    for (code, wanted) in
        [("continue", 0), ("break", 0), ("for i in 1; do break; done; (exit 4)", 4), ("if", 2)]
    {
        let told = host.run(Bash, code);
        assert_eq!((told.ended().exit_code, told.ended().state_reset), (wanted, false), "{code}: {told:?}");
    }
    let told = host.run(Bash, "sleep 0.01 & [ -n $! ] && wait; echo \"$x\"");
    assert_eq!(told.out, "20\n");
    let told = host.run(Bash, "exit 6");
    assert_eq!((told.ended().exit_code, told.ended().state_reset), (6, true));
    assert_eq!(host.run(Bash, "echo \"[$x]\"").out, "[]\n");
}

#[test]
fn one_that_was_lost_meanwhile_is_replaced() {
    let mut host = Host::start();
    let pid = host.run(Python, "import os\nos.getpid()").texts()[0].to_owned();
    host.execute(&["sh", "-c", &format!("kill -9 {pid}; while kill -0 {pid}; do :; done")]);
    let told = host.run(Python, "'os' in globals()");
    assert_eq!((told.ended().exit_code, told.ended().state_reset), (0, true), "{told:?}");
    assert_eq!(told.texts(), ["False"]);
    assert!(!host.run(Python, "1").ended().state_reset);
}

#[test]
fn each_gets_its_standard_input() {
    let mut host = Host::start();
    for (language, code) in [
        (Python, "print(input() + '|' + input())"),
        (Bash, "read a; read b; echo \"$a|$b\""),
        (
            Nodejs,
            "let all = ''; for await (const part of process.stdin) all += part; console.log(all.replace('\\n', '|'))",
        ),
    ] {
        let run = Run { stdin: "ä\nb".to_owned(), ..of(language, code) };
        let told = host.ask(Request::Run(run));
        assert_eq!(told.out, "ä|b\n", "{language:?}: {told:?}");
    }
    let told = host.run(Python, "input()");
    assert!(told.error.ends_with("EOFError: EOF when reading a line\n"), "{}", told.error);
}

#[test]
fn a_time_out_resets_the_state() {
    let mut host = Host::start();
    for (language, setting, endless, asked, left) in [
        (Python, "x = 1", "while True: pass", "'x' in globals()", "False"),
        (Nodejs, "var x = 1", "for (;;) {}", "typeof x", "'undefined'"),
    ] {
        host.run(language, setting);
        let told = host.ask(Request::Run(Run { timeout_ms: 300, ..of(language, endless) }));
        let ended = told.ended();
        assert_eq!((ended.exit_code, ended.killed, ended.state_reset), (137, Some(Killed::Timeout), true));
        assert_eq!(host.run(language, asked).texts(), [left]);
    }
}

#[test]
fn what_code_says_on_the_pipe_of_results_is_bounded_and_harmless() {
    let mut host = Host::start();
    host.run(Python, "import os\nends = [int(end) for end in os.listdir('/proc/self/fd') if int(end) > 2]");
    let told = host.run(
        Python,
        "for end in ends:\n    try: os.write(end, b'rubbish\\n{\"exit_code\": \"x\"}\\n' + b'y' * 3_000_000 + b'\\n')\n    \
         except OSError: pass\nprint('on')",
    );
    assert_eq!((told.out.as_str(), told.ended().exit_code), ("on\n", 0), "{told:?}");
    assert!(told.ended().truncated);
    let told = host.run(Python, "'x' * 3_000_000");
    assert!(told.ended().truncated && told.artifacts.is_empty(), "a value that is too large is left out");
    assert_eq!(host.run(Python, "1 + 1").texts(), ["2"]);
}

#[test]
fn all_output_comes_before_the_end() {
    let mut host = Host::start();
    for size in [1, 65_536, 300_000] {
        let told = host.run(
            Python,
            &format!("import sys\nsys.stdout.write('x' * {size})\nsys.stderr.write('y' * {size})\nNone"),
        );
        assert_eq!((told.out.len(), told.error.len()), (size, size));
        let told = host.run(Nodejs, &format!("process.stdout.write('x'.repeat({size})); undefined"));
        assert_eq!(told.out.len(), size);
    }
}
