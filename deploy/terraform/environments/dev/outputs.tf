output "lake_url" {
  description = "Where the lake is."
  value       = module.lakeward.lake_url
}

output "role_arn" {
  description = "The service's role."
  value       = module.lakeward.role_arn
}

output "glue_database" {
  description = "The database of its tables."
  value       = module.lakeward.glue_database
}
