use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that `scripts/with-s3` sets.
const S3: &str = "NEURALHUB_TEST_S3";

/// A prefix of its own in the tests' bucket, empty at first.
#[derive(Clone, Debug)]
pub struct TestBucket {
    /// Such as `http://127.0.0.1:20000`.
    pub endpoint: String,
    /// Such as `s3://bucket/prefix`.
    pub url: String,
    name: String,
    prefix: String,
}

impl TestBucket {
    pub const ACCESS_KEY_ID: &str = "test";
    pub const SECRET_ACCESS_KEY: &str = "test-secret";

    pub fn start() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let given = std::env::var(S3).unwrap_or_else(|_| {
            panic!(
                "{S3} is not set: run the tests through scripts/with-s3, such as `scripts/with-s3 cargo test`"
            )
        });
        let (endpoint, name) = given.rsplit_once('/').expect("http://ADDRESS/BUCKET");
        let prefix = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let url = format!("s3://{name}/{prefix}");
        Self { endpoint: endpoint.to_owned(), url, name: name.to_owned(), prefix }
    }

    /// One if `NEURALHUB_TEST_BLOBS` is `s3`: for suites that are run with files and
    /// with a bucket.
    pub fn of_environment() -> Option<Self> {
        (std::env::var("NEURALHUB_TEST_BLOBS").as_deref() == Ok("s3")).then(Self::start)
    }

    /// Where its server listens.
    pub fn address(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// How many objects are in it, of at most 1000. Everybody may list the tests' bucket.
    pub fn objects(&self) -> usize {
        let mut server = TcpStream::connect(self.address()).expect("the tests' S3 server");
        let path = format!("/{}?list-type=2&prefix={}/", self.name, self.prefix);
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address());
        server.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        server.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(" 200 "), "{answer}");
        answer.matches("<Key>").count()
    }
}
