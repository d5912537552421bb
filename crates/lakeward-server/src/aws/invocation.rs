//! What makes the tries of one SDK call one request.

use lakeward_model::RequestKey;

/// AWS's SDKs send the same `amz-sdk-invocation-id` with every try of one call,
/// so a try whose reply was lost is not stored twice. The body's hash is part
/// of the key: only the same records count as the same call.
pub(crate) fn invocation_key(id: &[u8], body: &[u8]) -> Option<RequestKey> {
    const ID_BYTES_MAX: usize = 128;
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return None;
    }
    let hash = xxhash_rust::xxh3::xxh3_128(body).to_le_bytes();
    RequestKey::new([b"sdk:", id, &hash].concat())
}
