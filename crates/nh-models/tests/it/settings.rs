//! From `[[providers]]` and the environment to callable providers.

use nh_models::{ProviderKind, ProviderSettings, ResolvedProvider};
use secrecy::{ExposeSecret, SecretString};

fn named(name: &str) -> ProviderSettings {
    ProviderSettings { name: name.to_owned(), ..ProviderSettings::default() }
}

fn resolve(
    settings: &[ProviderSettings],
    environment: &[(&str, &str)],
) -> Result<Vec<ResolvedProvider>, Vec<String>> {
    let look_up =
        |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    ResolvedProvider::resolve(settings, look_up)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn shown(providers: &[ResolvedProvider]) -> Vec<String> {
    let key = |one: &ResolvedProvider| {
        one.api_key.as_ref().map(|key| key.expose_secret().to_owned()).unwrap_or_default()
    };
    providers.iter().map(|one| format!("{} {} {}", one.name, one.base_url, key(one))).collect()
}

#[test]
fn keys_in_the_environment_are_enough() {
    let environment =
        [("OPENAI_API_KEY", "sk-1"), ("OPENROUTER_API_KEY", " sk-or\n"), ("GEMINI_API_KEY", "g")];
    assert_eq!(
        shown(&resolve(&[], &environment).expect("fine")),
        [
            "openrouter https://openrouter.ai/api/v1 sk-or",
            "google https://generativelanguage.googleapis.com/v1beta g",
            "openai https://api.openai.com/v1 sk-1",
        ]
    );
    assert!(resolve(&[], &[("OPENAI_API_KEY", "  ")]).expect("fine").is_empty());
}

#[test]
fn the_configuration_comes_first_and_names_are_not_taken_twice() {
    let local = ProviderSettings {
        base_url: Some("http://127.0.0.1:11434/v1/".parse().expect("a URL")),
        ..named("openai")
    };
    let mine = ProviderSettings { kind: ProviderKind::Openrouter, ..named("mine") };
    let environment = [("OPENAI_API_KEY", "sk-1"), ("OPENROUTER_API_KEY", "sk-or")];
    assert_eq!(
        shown(&resolve(&[local, mine], &environment).expect("fine")),
        // The key of api.openai.com never goes to another address.
        ["openai http://127.0.0.1:11434/v1 ", "mine https://openrouter.ai/api/v1 sk-or"]
    );
}

#[test]
fn keys_come_from_the_text_the_environment_or_a_file() {
    let file = std::env::temp_dir().join(format!("nh-models-key-{}", std::process::id()));
    std::fs::write(&file, "from-file\n").expect("written");
    let settings = [
        ProviderSettings { api_key: Some(SecretString::from("text")), ..named("a") },
        ProviderSettings { api_key_env: Some("MY_KEY".to_owned()), ..named("b") },
        ProviderSettings { api_key_file: Some(file.display().to_string()), ..named("c") },
    ];
    let providers = resolve(&settings, &[("MY_KEY", "from-env")]).expect("fine");
    let keys: Vec<_> =
        providers.iter().map(|one| one.api_key.as_ref().expect("a key").expose_secret()).collect();
    assert_eq!(keys, ["text", "from-env", "from-file"]);
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn every_fault_is_said_at_once_with_its_place() {
    let settings = [
        named("a b"),
        ProviderSettings { pause_timeout_seconds: 0, ..named("claude") },
        ProviderSettings { base_url: Some("ftp://x/".parse().expect("a URL")), ..named("x") },
        ProviderSettings { base_url: Some("http://u:p@x/".parse().expect("a URL")), ..named("x") },
        ProviderSettings { api_key_env: Some("NOT_SET".to_owned()), ..named("y") },
        ProviderSettings { api_key_file: Some("/nowhere/key".to_owned()), ..named("z") },
        ProviderSettings { api_key: Some(SecretString::from("with space")), ..named("k") },
        ProviderSettings {
            models: vec![nh_models::ModelSettings { input_cost: Some(-1.0), ..Default::default() }],
            ..named("m")
        },
        named("neuralhub"),
        ProviderSettings {
            kind: ProviderKind::Google,
            base_url: Some("https://x/v1beta/openai/".parse().expect("a URL")),
            ..named("g")
        },
    ];
    let faults = resolve(&settings, &[]).expect_err("faults");
    let paths: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().expect("a path")).collect();
    assert_eq!(
        paths,
        [
            "providers[0].name",
            "providers[1].pause_timeout_seconds",
            "providers[2].base_url",
            "providers[3].name",
            "providers[3].base_url",
            "providers[4].api_key_env",
            "providers[5].api_key_file",
            "providers[6].api_key",
            "providers[7].models[0].id",
            "providers[7].models[0].input_cost",
            "providers[8].name",
            "providers[9].base_url",
        ]
    );
    assert!(faults[1].contains("0 is not from 1 to 3600 seconds"), "{}", faults[1]);
    assert!(faults[11].contains("leave `/openai` out, or use kind `openai`"), "{}", faults[11]);
    assert!(faults.iter().all(|fault| !fault.contains("with space") && !fault.contains("u:p")));
}

#[test]
fn secrets_are_not_printed() {
    let settings = ProviderSettings { api_key: Some(SecretString::from("hush")), ..named("a") };
    assert!(!format!("{settings:?}").contains("hush"));
    let json = serde_json::to_string(&settings).expect("JSON");
    assert!(json.contains("[redacted]") && !json.contains("hush"));
    let provider = &resolve(&[settings], &[]).expect("fine")[0];
    assert!(!format!("{provider:?}").contains("hush"));
    let unknown = serde_json::from_str::<ProviderSettings>(r#"{"name": "a", "apikey": "x"}"#);
    assert!(unknown.expect_err("unknown").to_string().contains("apikey"));
}
