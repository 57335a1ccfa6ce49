//! Image references, digests, patterns and templates: what is read is what it says, and a name
//! that a pattern's literal host does not match is not matched.
#![no_main]

use countersign_fuzz::line;
use countersign_verify::image::{Digest, Pattern, Reference};
use countersign_verify::tuf::{Template, file_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (first, second) = line(input);
    let (Ok(first), Ok(second)) = (std::str::from_utf8(first), std::str::from_utf8(second)) else {
        return;
    };
    let pattern = Pattern::parse(second);
    if let Ok(reference) = Reference::parse(first) {
        let again = Reference::parse(&reference.to_string());
        assert_eq!(again.as_ref(), Ok(&reference), "it is not what it prints");
        assert!(!reference.registry().contains('/') && !reference.registry().is_empty());
        let pattern = pattern.as_ref().ok().filter(|pattern| pattern.matches(&reference));
        if let Some(host) = pattern.and_then(Pattern::literal_host) {
            assert_eq!(host, reference.registry());
        }
    }
    if let Ok(digest) = Digest::parse(first) {
        assert_eq!(Digest::parse(&digest.to_string()).as_ref(), Ok(&digest));
    }
    let _ = Template::for_tags(second);
    let _ = Template::for_digests(second);
    let name = file_name(first);
    assert!(!name.contains(['/', '\\', '\0']), "{name:?} leads elsewhere");
});
