# The Glue database of the lake's tables, and the leases of Kinesis readers.

resource "aws_glue_catalog_database" "lake" {
  count = var.glue_database != null ? 1 : 0

  name         = var.glue_database
  description  = "What Lakeward ${var.name} delivers"
  location_uri = "s3://${aws_s3_bucket.lake.bucket}/${var.prefix}"
  tags         = local.tags
}

# KCL's layout, so that both can share a stream. Small, and made anew from the
# stream if it is lost: the cursor that counts lies in the journal.
resource "aws_dynamodb_table" "leases" {
  # checkov:skip=CKV_AWS_28:leases hold for seconds; the cursors lie in the journal
  # checkov:skip=CKV_AWS_119:a key of your own if kms_key_arn is given
  # checkov:skip=CKV2_AWS_16:it is billed by request
  count = var.lease_table ? 1 : 0

  name                        = "${var.name}-leases"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "leaseKey"
  deletion_protection_enabled = false
  tags                        = local.tags

  attribute {
    name = "leaseKey"
    type = "S"
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
  }
}
