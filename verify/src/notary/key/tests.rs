//! Against OpenSSL's signatures over `message`, which this crate's own tests cannot make.

use super::*;

const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE7rh3olEK5jB5JAST8JtOQu4kbzN7ihebZW1GIOHWK16MVL4QH6RiMw3i\
     TXHExx4Td78lo533FkbslrCVaBupfud0CGzJ2AvZBysKAxkexGCkSmdid0laW849y82lfa9i";
const P384_SIGNATURE: &str = "N43o5g9Y7eBZfgLPbRm9iqNWxfKCZkJDF4L2dvkwi8FaCZqodTBuww+bKmQYFT0uMbHVxqKH/0GtJOpYXJWNx9Za\
     yXFbiX9DmlV8wxPOcQYZIRdyo7MKq+rlWRhREJ+i";
const P521: &str = "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBfX5XYEQ0z4r9q6LLPvAAWWxo/H5SUPH3F3ZTHr1dExITu9727KKK\
     jYgylXxtJXjrRh38M9Yz69Q6M9VPmplPLMkBX7MmpuiCusSRXvrOaoXL6OzUOoXNa+dheO/YtJLmBf3fA4xDtW8l\
     pIakXwwBreNKw9JiOJm0BIrajlHTyxisUBE=";
const P521_SIGNATURE: &str = "AAwKx287VqZ0BqiwQ78fEJi8pdMnZxZ2EDM1ojJ2E9QYieN6R3vi8MX7N38fS5a1c1VqpAsiVbELs5M+Fip0fWWb\
     ABnnkj8npMPc/9N2lW42MCYK404j3E/HpKXVxiXHwbJ1mCTCTpMNOfYixBKMsFRomZfP1pSw7gH3DjGPE+/S6Kxg";
const RSA_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDFsKNL9snN+AAkQvD9bmQorTyeCyLpQsmpwpRBhhq/6l3pk8GN\
     G/CrwRkxax+z7iI+5jFAkHTOcnRXkxMfrivFQ2hLLcJGDgyCbddauQ5CSJJ2/MPVbN8gau3sDnS1U6JF0xHWwp+S\
     dK22G9OawcWiiZaGgEv7zPZZejVtj5QigQIDAQAB";
const RSA_1024_PKCS1: &str = "Vqw+bIV8YZ/povjLk3km8sRkds2Iu8KmOlAZVimj0ddelWH59JnNq002VaD7ktuTHzEqRhf8FLPg3bDWXk6gQqWA\
     DkjDKOVn+V2bxRmW8NhKDOqNlf0kylzAS++YxPYmjcW6VR27BF2iMeEW9iahQkHz7LIwBB90e5pH698GCUI=";
const RSA_1024_PSS: &str = "Z4Z90jQCFe0P1j11uOKDNh4AxkMJXDPXy2v8P+uUNnjKJo9u0GtxudOluONoB680yAbf2e4/wHuyx5Isjr3gMyOr\
     k7JrJ7YrrhxYaCJvdn93JVvZv66ny2g8c78UR/xgdSlslSkDum6+13/YTXoG8vkLGt2XQ/LQSErrWvh6E0c=";
const RSA_2048: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlk0eQj2wEWWwwxHDpcycbZy4mVyb8IIyeYduyugTr0Tp\
     W6O7M9pHlHRifqGm/YIT7bUkQPmmnlkV/ya+ziCYnraTkjwp3MPh/hvBZ+CrDCi7JiUO73fe9uB2EWkbpVjFdufU\
     rYl3OwjmxQfSOOORQQPR1oKcyw8IeWPaE4rEKSVr8xb0IRKUztil/TJGpsa+Vw6o/kw2sL8hS8DH6gDOdVtzwhtu\
     cb4CkB0kY2er4TcozYKNqCxRd1yRyXNUp5od4PS2L0R12Ci1CawuOAAG6EPIdhFjkajxZiZt6VM1UY1p+T0IE575\
     P+OURvUfwMeKlCNaDbzuP4u311Yp03wi/QIDAQAB";
const RSA_2048_SALT_20: &str = "Om+giCQ26WAZ+xqMlidvV+OpijbtOkZttG6T+FH4OVBc0FWuXij03VLsfSuB+WjKbcEkMKiWztZPrwy2JC3eCw/u\
     canaAUwyCXSyirq+WDsAp7PgVfbD5Im+JwTvndIAwoL6k3JpQOfpBLkch3IxjM6fLi/+LYryHpLXWNbgSl1ToqYC\
     s2dzzRWoEE0lx/zF0cviVr5Dpiteg8U5NXsvQHHMnrRA/lI7hmsysd7rOvgoDzOxfIdRwJKLa7w9j7YkQgh+f1ku\
     eR0rQ72kXiCCC6YGuc/km5Jnv8TwQWnKb1RUPShaIVSpWE0BmbqfCRUc41WHE2khiKXY3Qa1tzi17A==";
const RSA_2048_SALT_32: &str = "UnnQv+ivTIX/2RcHikZ877ZBWv8IVA1QNZUt9s7fPZ0T/SWccSCFAi37rSY2JZtQf0SeKQCe3uTJDVK/SywACO6J\
     UVRNJd4uTGzKppNHwfvle0JlWvCxIxlOGjezboBbCL3eb79AQWXhAThF2zoveTxX57xX5vBuE9Z1bsetcqWHNh4t\
     Zo6zIq/cYcC00aCLtohh1y1wr1PJMIWcs0OLKPnSwfPjF0nOqshfhWbYVmpoIk/pVRSZM2nrvRMtLUl4Tx1lV2pY\
     6q6+bm6mjWFfyDN8kf0aWRbxP1IT04MIXLGxEAKwYlm5M+k9bLmLJhgnQwpYGkizeHy+jJ/VEviNng==";
const RSA_2048_SALT_64: &str = "gxdwtgzUU9rR2BQO4Od6v/MZWArGplfNJ47SdLaH93PIemzOlXVT8cj6Td6q4Y+5Nn16LEamysZ9gasGCS4j3RRe\
     YgPPaKCpjixZMj7ieLJGLWC0H59FSxthkKGSAJvG+K99KwjW9AVtrGZBjRTxMos9Ze/fTMsYmmvUhNbkhporzR8K\
     v9DSN7qHvmiCUm44mESBrTuKXZwGdPl8gHWereok18kgvpOMrK5whSsXM+KyZoedxx02T36IZdHN2PxWxNBcPUDV\
     kVA8RpCIsLKT4xspn/okgw7WkNxIpJi1VBA2bCbrB292p+xG6tE5CVbIuUjl6eoAqfyTs4huf2UScA==";
const SECP256K1: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEgyuQfVXZXMP24O6kE0P+56bfA88dDUf8y6ZxKoF5/ir4lA5IMVGyVEty\
     6UH9TVVXkEutPrb742bum2TsbclC5A==";
const P224: &str = "ME4wEAYHKoZIzj0CAQYFK4EEACEDOgAEaUnKf9/x9YBY3TaFm1f8hNBm2yazpndLbT+EcvlJXON+C5enYO2t2p2V\
     sVlQlsMBaWVdvyZTvxk=";

fn bytes(base64: &str) -> Vec<u8> {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.decode(base64).expect("base64")
}

fn read(key_type: &str, public: &str) -> Key {
    let json =
        format!(r#"{{"keytype":"{key_type}","keyval":{{"private":null,"public":"{public}"}}}}"#);
    let value = crate::json::parse("root", json.as_bytes()).expect("JSON");
    Key::read(&key_id(key_type, public), Node::whole("root", &value)).expect("its own id")
}

fn verifies(key: &Key, method: &str, signature: &[u8]) -> bool {
    let (key_id, method, bytes) = (String::new(), method.to_owned(), signature.to_vec());
    key.verifies(b"message", &Signature { key_id, method, bytes })
}

#[test]
fn ecdsa_is_over_sha256_on_every_curve() {
    for (public, signature) in [(P384, P384_SIGNATURE), (P521, P521_SIGNATURE)] {
        let key = read("ecdsa", public);
        let signature = bytes(signature);
        assert!(verifies(&key, "ecdsa", &signature));
        let bytes = signature.clone();
        let signature = Signature { key_id: String::new(), method: "ecdsa".to_owned(), bytes };
        assert!(!key.verifies(b"massage", &signature));
    }
}

#[test]
fn an_ecdsa_signature_is_as_long_as_its_curve() {
    let key = read("ecdsa", P384);
    let signature = bytes(P384_SIGNATURE);
    let (r, s) = signature.split_at(48);
    for odd in [
        [b"\0", r, b"\0", s].concat(),
        [r, s, b"\0"].concat(),
        [r, &s[1..]].concat(),
        [&[0; 48], s].concat(),
        [r, &[0; 48]].concat(),
        [r, &[0xff; 48][..]].concat(),
        fixed_to_der(&signature, 48).expect("the right length"),
        Vec::new(),
    ] {
        assert!(!verifies(&key, "ecdsa", &odd), "{odd:x?}");
    }
}

#[test]
fn r_and_s_become_der_integers() {
    assert_eq!(der_integer(&[0, 0, 1, 0]), [2, 2, 1, 0]);
    assert_eq!(der_integer(&[0, 0x80]), [2, 2, 0, 0x80]);
    assert_eq!(der_integer(&[0x7f]), [2, 1, 0x7f]);
    assert_eq!(der_integer(&[0, 0]), [2, 1, 0]);
    // From 128 bytes on, a length takes two.
    let short = [&[0; 4][..], &[1; 62]].concat().repeat(2);
    assert_eq!(fixed_to_der(&short, 66).expect("the right length")[..3], [0x30, 0x81, 128]);
    let longest = fixed_to_der(&[0xff; 132], 66).expect("the right length");
    assert_eq!(longest[..3], [0x30, 0x81, 138]);
    assert_eq!(longest.len(), 3 + 138);
}

#[test]
fn rsa_below_2048_bits_does_not_count() {
    let key = read("rsa", RSA_1024);
    assert!(!verifies(&key, "rsapkcs1v15", &bytes(RSA_1024_PKCS1)));
    assert!(!verifies(&key, "rsapss", &bytes(RSA_1024_PSS)));
}

#[test]
fn pss_salts_are_32_bytes() {
    let key = read("rsa", RSA_2048);
    assert!(verifies(&key, "rsapss", &bytes(RSA_2048_SALT_32)));
    assert!(verifies(&key, "RSAPSS", &bytes(RSA_2048_SALT_32)));
    assert!(!verifies(&key, "rsapkcs1v15", &bytes(RSA_2048_SALT_32)));
    for other in [RSA_2048_SALT_20, RSA_2048_SALT_64] {
        assert!(!verifies(&key, "rsapss", &bytes(other)));
    }
}

#[test]
fn other_curves_are_no_keys() {
    for public in [SECP256K1, P224] {
        assert!(read("ecdsa", public).fingerprint().is_none());
    }
}

#[test]
fn a_point_off_its_curve_is_no_key() {
    let mut spki = bytes(P384);
    let last = spki.len() - 1;
    spki[last] ^= 1;
    assert!(public_key_fingerprint(&spki).is_err());
}

#[test]
fn the_id_of_a_real_key() {
    let public = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEm0zuNRadXWNZFvyzOkiZWo1xWu5w\
                  fwNbseokFXAe3oqJ4fYM7gicKMpnMRUdBgmvGgcffsx71HIfKWSI4nrExA==";
    let id = "165cb85e10d1ba37cda85f3bea7d3b4bd7dc5de0af1e0f37991559c819c13188";
    assert_eq!(key_id("ecdsa", public), id);
}
