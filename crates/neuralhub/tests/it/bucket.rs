//! A hub of the real binary that keeps its objects in a bucket: run it through
//! `scripts/with-s3`.

use nh_testkit::TestBucket;

use crate::hub::{TestHub, command, text};

/// In the database are objects of up to 64 KiB.
const SIZE: usize = 1_000_000;

fn variables(bucket: &TestBucket, secret: &'static str) -> [(&'static str, String); 4] {
    [
        ("NEURALHUB__BLOBS__URL", bucket.url.clone()),
        ("NEURALHUB__BLOBS__ENDPOINT", bucket.endpoint.clone()),
        ("NEURALHUB__BLOBS__ACCESS_KEY_ID", TestBucket::ACCESS_KEY_ID.to_owned()),
        ("NEURALHUB__BLOBS__SECRET_ACCESS_KEY", secret.to_owned()),
    ]
}

#[test]
fn objects_are_in_the_bucket_and_outlive_the_data_directorys_files() {
    let bucket = TestBucket::start();
    let variables = variables(&bucket, TestBucket::SECRET_ACCESS_KEY);
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let hub = TestHub::start_with(tempfile::tempdir().expect("a folder"), &variables);
    let content = "0123456789".repeat(SIZE / 10);
    let put = hub.http().send_text("POST", "/v1/storage/upload?pathname=a.txt", &content).expect("an answer");
    assert_eq!(put.status, 201, "{}", put.body);
    assert_eq!(bucket.objects(), 1);
    assert!(!hub.data().join("blobs").exists());

    let hub = TestHub::start_with(hub.kill(), &variables);
    let path = format!("/v1/storage/{}", put.json()["pathname"].as_str().expect("a pathname"));
    let whole = hub.http().get(&path, &[]).expect("an answer");
    assert_eq!((whole.status, whole.body == content), (200, true));
    let part = hub.http().get(&path, &[("Range", "bytes=-5")]).expect("an answer");
    assert_eq!((part.status, part.body.as_str()), (206, "56789"));

    let doctor = |variables: &[(&str, &str)]| {
        let mut doctor = command(hub.folder.path());
        let output = doctor.arg("doctor").envs(variables.iter().copied()).output().expect("it runs");
        text(&output.stdout)
    };
    let well = doctor(&variables);
    assert!(well.contains(&format!("objects in {}: can be written, read and deleted", bucket.url)), "{well}");
    assert_eq!(bucket.objects(), 1, "what the doctor wrote is gone");
    let wrong: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, if name.ends_with("SECRET_ACCESS_KEY") { "wrong" } else { value }))
        .collect();
    let unwell = doctor(&wrong);
    assert!(
        unwell.contains("WRONG  objects in s3://") && unwell.contains("refuses the credentials"),
        "{unwell}"
    );
}

#[test]
fn a_bucket_that_cannot_be_used_keeps_a_hub_from_starting() {
    let bucket = TestBucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let start = |variables: [(&str, String); 4], code| {
        let mut serve = command(folder.path());
        let output =
            serve.args(["serve", "--bind", "127.0.0.1:0"]).envs(variables).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), String::new()));
        text(&output.stderr)
    };
    let said = start(variables(&bucket, "not-the-secret"), 1);
    assert!(
        said.contains("the bucket of [blobs] url cannot be used: the bucket refuses the credentials"),
        "{said}"
    );
    assert!(!said.contains("not-the-secret"), "{said}");
    let mut unset = variables(&bucket, "");
    unset[2].1.clear();
    let said = start(unset, 2);
    assert!(
        said.contains("blobs.access_key_id: it is missing") && said.contains("blobs.secret_access_key"),
        "{said}"
    );
}

#[test]
fn the_secret_of_a_bucket_is_not_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let bucket = TestBucket::start();
    let mut print = command(folder.path());
    let output =
        print.args(["config", "print"]).envs(variables(&bucket, "hush-hush")).output().expect("it runs");
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert!(printed.contains(&bucket.url) && printed.contains("[redacted]"), "{printed}");
    assert!(!printed.contains("hush-hush"), "{printed}");
}
