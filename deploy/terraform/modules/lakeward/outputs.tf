output "bucket" {
  description = "The lake's bucket."
  value       = aws_s3_bucket.lake.bucket
}

output "lake_url" {
  description = "`destination.url` of pipelines."
  value       = local.environment["LAKEWARD_LAKE"]
}

output "role_arn" {
  description = "The service's role, for instance for a service account of Kubernetes (IRSA needs another trust policy)."
  value       = aws_iam_role.service.arn
}

output "glue_database" {
  description = "The database of the lake's tables, if there is one."
  value       = one(aws_glue_catalog_database.lake[*].name)
}

output "lease_table" {
  description = "The table of Kinesis leases, if there is one."
  value       = one(aws_dynamodb_table.leases[*].name)
}

output "security_group_id" {
  description = "The service's security group, if there is a service."
  value       = one(aws_security_group.service[*].id)
}

output "instance_id" {
  description = "The instance, with compute = \"ec2\"."
  value       = one(aws_instance.service[*].id)
}

output "endpoint" {
  description = "Where clients in the VPC send to, with compute = \"ec2\"."
  value       = local.ec2 ? "http://${aws_instance.service[0].private_ip}:${var.port}" : null
}

output "journal" {
  description = "The volume or file system that holds the journal: what must never be lost or mounted twice."
  value       = one(concat(aws_ebs_volume.journal[*].id, aws_efs_file_system.journal[*].id))
}
