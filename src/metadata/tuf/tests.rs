#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::http::FetchError;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn t2_t16_a_folders_files_are_read_up_to_a_bound_and_none_outside_of_it() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let folder = outside.path().join("metadata");
    std::fs::create_dir_all(folder.join("below")).unwrap();
    std::fs::write(folder.join("1.a%2Fb.json"), "12345").unwrap();
    let url = url::Url::from_file_path(&folder).unwrap();
    let mirror = Mirror::plain(&url).unwrap();
    let get = |path: &'static str, limit| {
        let mirror = mirror.clone();
        async move { mirror.get(path, limit, None, soon()).await.map(|bytes| bytes.to_vec()) }
    };
    assert_eq!(get("1.a%2Fb.json", 5).await, Ok(b"12345".to_vec()));
    assert_eq!(get("1.a%2Fb.json", 4).await, Err(FetchError::TooLarge { limit: 4 }));
    assert_eq!(get("2.root.json", 5).await, Err(FetchError::NotFound));
    for path in ["../secret", "below/../../secret", "/etc/hostname", "./1.a%2Fb.json", "a\0b"] {
        assert_eq!(get(path, 99).await, Err(FetchError::InvalidPath(path.to_owned())), "{path}");
    }
    assert!(matches!(get("below", 99).await, Err(FetchError::File(_))));
}

#[tokio::test]
async fn a_pipe_in_a_folder_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("timestamp.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mirror = Mirror::Folder(folder.path().to_owned());
    let read = mirror.get("timestamp.json", 9, None, soon()).await;
    assert_eq!(read, Err(FetchError::File("it is not a regular file".to_owned())));
}

#[test]
fn only_folders_at_http_https_and_file_urls_are_mirrors() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for (url, wanted) in [
        ("https://tuf.example.com/metadata/", true),
        ("http://tuf.example.com:8080/metadata", true),
        ("file:///mnt/mirror", true),
        ("file://elsewhere/mnt/mirror", false),
        ("file:///mnt/mirror?x", false),
        ("ftp://tuf.example.com/", false),
        ("https://user:secret@tuf.example.com/", false),
        ("https://tuf.example.com/?version=1", false),
        ("data:,x", false),
    ] {
        let url = url::Url::parse(url).unwrap();
        assert_eq!(Mirror::plain(&url).is_ok(), wanted, "{url}");
    }
}
