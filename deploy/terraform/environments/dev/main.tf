# Bucket, role and catalog; the service runs on the developer's machine
# (`lakeward run`), or in a container. Works against an emulator.

module "lakeward" {
  source = "../../modules/lakeward"

  name          = "lakeward-dev"
  bucket        = var.bucket
  glue_database = "lakeward_dev"
  tags          = { Environment = "dev" }

  compute       = "none"
  force_destroy = true
  versioning    = false
}
