//! Files that are not the model's are refused, and the error says which.

use std::fs;
use std::path::Path;

use nh_minilm::{FILES, LoadError, MiniLm, verify};

use crate::directory;

/// A copy of the model without one of its files.
fn all_but(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in FILES.iter().filter(|file| file.name != name) {
        fs::copy(directory().join(file.name), copy.path().join(file.name)).unwrap();
    }
    copy
}

fn fault(directory: &Path) -> LoadError {
    let fault = verify(directory).expect_err("not the model");
    let loading = MiniLm::load(directory).err().expect("not the model");
    assert_eq!(fault.to_string(), loading.to_string());
    fault
}

#[test]
fn the_right_files_are_accepted() {
    verify(&directory()).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    for file in FILES {
        let copy = all_but(file.name);
        let fault = fault(copy.path());
        assert!(matches!(&fault, LoadError::Missing { path, .. } if path.ends_with(file.name)), "{fault}");
        assert!(fault.to_string().contains(copy.path().to_str().unwrap()), "{fault}");
    }
    assert!(matches!(fault(Path::new("/nowhere/at/all")), LoadError::Missing { .. }));
    // A file where the directory should be.
    assert!(matches!(fault(&directory().join(FILES[1].name)), LoadError::Missing { .. }));
}

#[test]
fn a_damaged_file_is_named_with_what_was_found() {
    for file in FILES {
        let copy = all_but(file.name);
        let path = copy.path().join(file.name);
        let whole = fs::read(directory().join(file.name)).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let cases = [
            (&whole[..0], "0 bytes".to_owned()),
            (&whole[..whole.len() - 1], format!("{} bytes", whole.len() - 1)),
            (&flipped[..], "SHA-256 ".to_owned()),
        ];
        for (bytes, found) in cases {
            fs::write(&path, bytes).unwrap();
            let fault = fault(copy.path());
            let is_right = matches!(&fault, LoadError::Damaged { path: named, .. } if *named == path);
            assert!(is_right && fault.to_string().contains(&found), "{fault}");
        }
    }
}

#[test]
fn a_directory_in_a_files_place_is_no_file() {
    let copy = all_but(FILES[0].name);
    fs::create_dir(copy.path().join(FILES[0].name)).unwrap();
    let fault = fault(copy.path());
    assert!(matches!(fault, LoadError::Damaged { .. } | LoadError::Io { .. }), "{fault}");
}
