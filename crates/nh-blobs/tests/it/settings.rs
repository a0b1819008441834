//! `[blobs]`: which bucket it means, and what is wrong with it.

use nh_blobs::{BlobSettings, Bucket};

fn right() -> BlobSettings {
    BlobSettings {
        url: Some("s3://objects/hub/a".to_owned()),
        access_key_id: Some("AKIA123".to_owned()),
        secret_access_key: Some("se/cr+et".into()),
        ..BlobSettings::default()
    }
}

fn faults(settings: &BlobSettings) -> Vec<String> {
    let variable = |name: &str| (name == "SECRET").then(|| "se/cr+et".to_owned());
    let faults = Bucket::resolve(settings, variable).err().unwrap_or_default();
    faults.into_iter().map(|fault| fault.to_string()).collect()
}

#[test]
fn buckets_of_many_servers_are_understood() {
    assert!(Bucket::resolve(&BlobSettings::default(), |_| None).expect("right").is_none());
    let here = |endpoint: &str| BlobSettings { endpoint: Some(endpoint.parse().expect("a URL")), ..right() };
    let url = |url: &str| BlobSettings { url: Some(url.to_owned()), ..right() };
    let by_variable =
        BlobSettings { secret_access_key: None, secret_access_key_env: Some("SECRET".to_owned()), ..right() };
    let plain = BlobSettings { allow_http: true, ..here("http://minio:9000") };
    for settings in [
        right(),
        url("s3://objects"),
        url("s3://objects/"),
        url("s3://my.objects/a/b/"),
        here("https://minio.example.com:9000/"),
        here("http://127.0.0.1:9000"),
        here("http://[::1]:9000"),
        here("http://localhost:3900"),
        by_variable,
        plain,
    ] {
        assert!(matches!(Bucket::resolve(&settings, |name| Some(name.to_owned())), Ok(Some(_))));
        assert_eq!(faults(&settings), Vec::<String>::new());
    }
}

#[test]
fn faults_name_the_field_and_the_remedy() {
    let url = |url: &str| BlobSettings { url: Some(url.to_owned()), ..right() };
    let endpoint =
        |endpoint: &str| BlobSettings { endpoint: Some(endpoint.parse().expect("a URL")), ..right() };
    let file = "/no/such/file".to_owned();
    for (settings, expected) in [
        (url("gs://objects"), "blobs.url: `gs://` is not known here; give a bucket as `s3://bucket/prefix`"),
        (url("objects"), "blobs.url: it names no bucket"),
        (url("s3://"), "blobs.url: `` is not the name of a bucket; it has 3 to 63"),
        (url("s3:///prefix"), "blobs.url: `` is not the name of a bucket"),
        (url("s3://id:key@objects"), "blobs.url: it holds a user name or password"),
        (url("s3://objects/a/../b"), "blobs.url: `a/../b` is not a prefix"),
        (url("s3://objects//b"), "blobs.url: `/b` is not a prefix"),
        (url("s3://objects/a?x=1"), "blobs.url: `a?x=1` is not a prefix"),
        (
            endpoint("http://minio:9000"),
            "blobs.endpoint: objects would go to `minio` unencrypted; use https://",
        ),
        (endpoint("https://a:b@minio"), "blobs.endpoint: it holds a user name or password"),
        (endpoint("ftp://minio"), "blobs.endpoint: it should be an http:// or https:// address"),
        (BlobSettings { region: "eu/1".to_owned(), ..right() }, "blobs.region: `eu/1` is not a region"),
        (BlobSettings { access_key_id: None, ..right() }, "blobs.access_key_id: it is missing"),
        (
            BlobSettings { secret_access_key: None, ..right() },
            "blobs.secret_access_key: it is missing; give it",
        ),
        (
            BlobSettings { secret_access_key_env: Some("SECRET".to_owned()), ..right() },
            "blobs.secret_access_key: give one of",
        ),
        (
            BlobSettings {
                secret_access_key: None,
                secret_access_key_env: Some("NOT_SET".to_owned()),
                ..right()
            },
            "blobs.secret_access_key_env: the environment has no `NOT_SET`",
        ),
        (
            BlobSettings { secret_access_key: None, secret_access_key_file: Some(file), ..right() },
            "blobs.secret_access_key_file: `/no/such/file` cannot be read",
        ),
        (BlobSettings { url: None, ..right() }, "blobs.url: it is missing, though"),
    ] {
        let found = faults(&settings);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        assert!(!found[0].contains("se/cr+et") && !found[0].contains("key@"), "{found:?}");
    }
    let nothing = BlobSettings { url: Some("s3://a".to_owned()), ..BlobSettings::default() };
    assert_eq!(faults(&nothing).len(), 3, "all at once: {:?}", faults(&nothing));
}

#[test]
fn a_secret_is_never_printed() {
    let printed = format!("{:?} {:?}", right(), Bucket::resolve(&right(), |_| None).expect("right"));
    assert!(!printed.contains("se/cr+et"), "{printed}");
}
