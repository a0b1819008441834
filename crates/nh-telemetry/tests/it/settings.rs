use nh_telemetry::{Collector, TelemetrySettings};

use crate::collector::settings;

fn resolve(settings: &TelemetrySettings, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let resolved = Collector::resolve(settings, environment).map_err(|fault| fault.to_string())?;
    Ok(resolved.map(|collector| format!("{collector:?}")))
}

#[test]
fn spans_go_where_the_file_says_else_where_the_environment_does() {
    let nothing = TelemetrySettings::default();
    assert_eq!(resolve(&nothing, &[]), Ok(None));
    assert_eq!(
        resolve(&nothing, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_SERVICE_NAME", "x")]),
        Ok(None)
    );
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example.com/otlp/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-one=1, X-Two=a%20b%3D,"),
        ("OTEL_SERVICE_NAME", "from-environment"),
    ];
    let found = resolve(&nothing, &variables).expect("right").expect("somewhere");
    for part in ["/otlp/v1/traces", "collector.example.com", "x-one", "x-two", "from-environment"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(!found.contains("a b="), "a header's value is shown: {found}");
    let of_file = TelemetrySettings {
        otlp_headers: Some("x-three=3".to_owned().into()),
        service_name: Some("from-file".to_owned()),
        ..settings("http://127.0.0.1:4318", 1.0)
    };
    let found = resolve(&of_file, &variables).expect("right").expect("somewhere");
    for part in ["127.0.0.1", "x-three", "from-file", "/v1/traces"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(!found.contains("x-one"), "{found}");
}

#[test]
fn what_is_wrong_is_named_without_its_secrets() {
    let nothing = TelemetrySettings::default();
    for bad in ["collector:4318", "grpc://collector:4317", "https://user:secret@collector", "not a URL"] {
        let fault = resolve(&nothing, &[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]).expect_err(bad);
        assert!(fault.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: should be"), "{fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
    let fault = resolve(&settings("ftp://collector", 1.0), &[]).expect_err("ftp");
    assert!(fault.starts_with("telemetry.otlp_endpoint: "), "{fault}");
    for bad in ["secret", "x=1,secret", "x y=secret", "x=%0Asecret"] {
        let given = TelemetrySettings {
            otlp_headers: Some(bad.to_owned().into()),
            ..settings("http://127.0.0.1:4318", 1.0)
        };
        let fault = resolve(&given, &[]).expect_err(bad);
        assert!(fault.starts_with("telemetry.otlp_headers: header "), "{fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
}
