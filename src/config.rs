//! One configuration, from flags, validated once.
