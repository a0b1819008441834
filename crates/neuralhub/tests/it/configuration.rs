//! The configuration: its sources, its faults, its reference.

use neuralhub::config::{self, Schema, Sources};
use proptest::prelude::*;
use serde_json::json;

fn faults(text: &str) -> Vec<String> {
    let faults = config::parse(text).expect_err("a fault");
    faults.0.into_iter().map(|fault| format!("{}: {}", fault.at, fault.message)).collect()
}

fn with_variables(variables: &[(&str, &str)]) -> Sources {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

#[test]
fn nothing_has_to_be_set() {
    let config = config::parse("").expect("valid");
    assert_eq!(config.server.bind.to_string(), "127.0.0.1:8080");
    assert!(config.providers.is_empty());
}

#[test]
fn the_example_of_the_wire_contract_is_understood() {
    let config = config::parse(
        r#"
        [server]
        bind = "127.0.0.1:8080"
        public_url = "https://hub.example.com"
        [store]
        url = "postgres://hub:secret@db/hub"
        [blobs]
        url = "s3://bucket/prefix"
        [security]
        master_key_file = "/etc/neuralhub/master.key"
        [agents]
        default_model = "google/gemini-2.5-flash-lite"
        [[providers]]
        name = "local"
        kind = "openai"
        base_url = "http://127.0.0.1:11434/v1"
        api_key_env = "LOCAL_KEY"
        [http]
        allow_networks = ["10.0.0.0/8"]
        "#,
    )
    .expect("valid");
    assert_eq!(config.agents.default_model.as_deref(), Some("google/gemini-2.5-flash-lite"));
    assert_eq!(config.providers[0].name, "local");
}

#[test]
fn all_below_the_domain_of_sandboxes_is_theirs() {
    let with = |domain: &str| {
        format!(
            "[server]\npublic_url = \"https://hub.example.com\"\n[compute]\nsandbox_domain = \"{domain}\""
        )
    };
    assert!(config::parse(&with("sandboxes.example.net")).is_ok());
    for domain in [
        "example.com",
        "hub.example.com",
        "Boxes.example.net",
        "x.net:8443",
        "https://x.net",
        ".x.net",
        "x.net.",
        "",
    ] {
        let faults = faults(&with(domain));
        assert!(
            faults.len() == 1 && faults[0].starts_with("compute.sandbox_domain: "),
            "{domain}: {faults:?}"
        );
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let faults = faults(
        r#"
        [server]
        bindd = "127.0.0.1:1"
        max_body_bytes = "many"
        public_url = "not a url"
        [http]
        allow_networks = ["10.0.0.0/99"]
        [[providers]]
        name = "x"
        kind = "openia"
        [log]
        format = "xml"
        [storage]
        url = "x"
        "#,
    );
    let all = faults.join("\n");
    assert!(all.contains("server.bindd: `bindd` is unknown here; did you mean `bind`?"), "{all}");
    assert!(
        all.contains("server.max_body_bytes: `\"many\"`")
            || all.contains("server.max_body_bytes: `many` should be a whole number"),
        "{all}"
    );
    assert!(all.contains("server.public_url: "), "{all}");
    assert!(all.contains("http.allow_networks"), "{all}");
    assert!(all.contains("providers[0].kind: `openia` should be one of openai, openrouter, google"), "{all}");
    assert!(all.contains("log.format: `xml` should be one of auto, pretty, json"), "{all}");
    assert!(all.contains("storage: `storage` is unknown here; did you mean `store`?"), "{all}");
    assert_eq!(faults.len(), 7, "{all}");
}

#[test]
fn a_fault_says_the_value_and_what_would_be_right() {
    let faults = faults(
        r#"
        [server]
        bind = "127.0.0.1:99999"
        public_url = "ftp://hub.example"
        max_body_bytes = -3
        [http]
        allow_networks = ["10.0.0.0/99"]
        "#,
    );
    let all = faults.join("\n");
    for told in [
        "server.bind: `127.0.0.1:99999` should be an address with a port, such as 127.0.0.1:8080",
        "server.public_url: `ftp://` should be http:// or https://",
        "server.max_body_bytes: `-3` is less than the minimum of 1024",
        "http.allow_networks[0]: `10.0.0.0/99` should be a network, such as 10.1.0.0/16",
    ] {
        assert!(all.contains(told), "{told}\n---\n{all}");
    }
    assert_eq!(faults.len(), 4, "{all}");
}

#[test]
fn a_providers_faults_are_told_beside_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hub.toml");
    let text = "[server]\ncolour = 1\n[[providers]]\nname = \"a\"\nbase_url = \"ftp://a/\"\n\
                [[providers]]\nname = \"a\"\napi_key_env = \"NOT_SET\"\n";
    std::fs::write(&file, text).expect("written");
    let mut sources = with_variables(&[]);
    sources.file = Some(file);
    let faults = config::load(&sources).expect_err("faults").0;
    let at: Vec<_> = faults.iter().map(|fault| fault.at.as_str()).collect();
    assert_eq!(at[..3], ["server.colour", "providers[0].base_url", "providers[1].name"], "{faults:?}");
}

#[test]
fn a_file_that_is_not_toml_names_the_line_but_not_its_text() {
    let faults = faults("[store]\nurl = postgres://hub:secret@db/hub\n");
    assert!(faults[0].starts_with("neuralhub.toml: line 2 is not TOML"), "{faults:?}");
    assert!(!faults[0].contains("secret"), "{faults:?}");
}

#[test]
fn variables_stand_over_the_file_and_flags_over_variables() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, "[server]\nbind = \"127.0.0.1:1\"\nmax_body_bytes = 5000\n").expect("written");
    let mut sources = with_variables(&[
        ("NEURALHUB__SERVER__BIND", "127.0.0.1:2"),
        ("NEURALHUB__SERVER__MAX_BODY_BYTES", "6000"),
        ("NEURALHUB__HTTP__ALLOW_NETWORKS", "10.0.0.0/8, 192.168.1.0/24"),
        ("NEURALHUB__PROVIDERS__0__NAME", "local"),
        ("NEURALHUB__PROVIDERS__0__API_KEY", "12345"),
        ("NEURALHUB_API_KEY", "is the client's"),
    ]);
    sources.file = Some(file);
    sources.flags = vec![(&["server", "bind"], json!("127.0.0.1:3"))];
    let config = config::load(&sources).expect("valid");
    assert_eq!(config.server.bind.port(), 3);
    assert_eq!(config.server.max_body_bytes, 6000);
    assert_eq!(config.http.allow_networks.len(), 2);
    assert_eq!(config.providers[0].name, "local");
    assert!(config.providers[0].api_key.is_some(), "digits are a text where a text is wanted");
}

#[test]
fn wrong_variables_are_named() {
    let sources = with_variables(&[
        ("NEURALHUB__SERVER__BIN", "x"),
        ("NEURALHUB__SERVER__MAX_BODY_BYTES", "much"),
        ("NEURALHUB__PROVIDERS__X__NAME", "x"),
        ("NEURALHUB__PROVIDERS__7__NAME", "x"),
    ]);
    let text = config::load(&sources).expect_err("faults").to_string();
    assert_eq!(
        text,
        "the configuration has 4 faults:\n  \
         NEURALHUB__PROVIDERS__7__NAME: item 7 would leave a gap in the list\n  \
         NEURALHUB__PROVIDERS__X__NAME: `x` should be the number of an item, from 0\n  \
         NEURALHUB__SERVER__BIN: `bin` is unknown here; did you mean `bind`?\n  \
         NEURALHUB__SERVER__MAX_BODY_BYTES: `much` should be a whole number"
    );
}

#[test]
fn what_is_printed_holds_no_secret_and_can_be_read_again() {
    let config = config::parse(
        "[store]\nurl = \"postgres://hub:hunter2@db/hub\"\n\
         [[providers]]\nname = \"a\"\napi_key = \"hunter2\"\nbase_url = \"https://user:hunter2@host/v1\"\n\
         [search]\nprovider = \"brave\"\napi_key = \"hunter2\"\n",
    )
    .expect("valid");
    let printed = config::printed(&config).expect("printable");
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("[redacted]"), "{printed}");
    config::parse(&printed).expect("it is a configuration");
}

#[test]
fn the_reference_is_a_configuration_and_stands_in_the_documents() {
    let reference = config::reference().expect("printable");
    config::parse(&reference).expect("as it is");
    let uncommented: String = reference
        .lines()
        .filter_map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) || setting.starts_with("[[") => Some(setting),
            Some(_) => None,
            None => Some(line),
        })
        .fold(String::new(), |text, line| text + line + "\n");
    config::parse(&uncommented).expect("every default is valid");
    let page = include_str!("../../../../docs/configuration.md");
    assert!(
        page.contains(&reference),
        "docs/configuration.md is out of date; put this in its block (neuralhub config reference):\n{reference}"
    );
}

/// `name = value` with a value.
fn is_setting(line: &str) -> bool {
    let parts = line.split_once(" = ");
    parts.is_some_and(|(name, value)| !name.contains(' ') && !value.is_empty())
}

#[test]
fn every_setting_is_explained() {
    let schema = Schema::of_config();
    let mut bare = Vec::new();
    for section in schema.field_names(schema.root()) {
        let field = schema.field(schema.root(), section).expect("there");
        let shape = schema.items(field).unwrap_or_else(|| schema.resolve(field));
        for name in schema.field_names(shape) {
            let setting = schema.field(shape, name).expect("there");
            let has = |value: &serde_json::Value| value["description"].is_string();
            if !has(setting) && !has(schema.resolve(setting)) {
                bare.push(format!("{section}.{name}"));
            }
        }
    }
    assert!(bare.is_empty(), "without a doc comment: {bare:?}");
}

proptest! {
    /// Whatever stands in the file, it is read or refused with a reason.
    #[test]
    fn no_text_breaks_the_reader(text in ".{0,200}") {
        if let Err(faults) = config::parse(&text) {
            prop_assert!(!faults.0.is_empty());
        }
    }

    /// The same for files that look like ours.
    #[test]
    fn no_setting_breaks_the_reader(
        section in "(server|store|http|providers|log|search|engine|[a-z]{1,8})",
        name in "(bind|url|allow_networks|kind|name|models|level|[a-z_]{1,10})",
        value in "(-?[0-9]{1,20}|true|\"[^\"\\\\\\p{Cc}]{0,20}\"|\\[\\]|\\[1, \"a\"\\]|\\{a = 1\\}|1979-05-27|nan|inf)",
        is_list in any::<bool>(),
    ) {
        let heading = if is_list { format!("[[{section}]]") } else { format!("[{section}]") };
        if let Err(faults) = config::parse(&format!("{heading}\n{name} = {value}\n")) {
            prop_assert!(!faults.0.is_empty());
            prop_assert!(faults.0.len() <= 64);
        }
    }

    #[test]
    fn no_variable_breaks_the_reader(name in "NEURALHUB__[A-Z0-9_]{0,30}", value in ".{0,40}") {
        let _ = config::load(&with_variables(&[(&name, &value)]));
    }
}
