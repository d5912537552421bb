variable "region" {
  description = "The region."
  type        = string
  default     = "eu-west-1"
}

variable "emulator" {
  description = "Address of a local AWS emulator, instead of AWS."
  type        = string
  default     = null
}

variable "bucket" {
  description = "Name of the lake's bucket; unique in the whole world."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_id" {
  description = "A private subnet of it, with a way to S3."
  type        = string
}

variable "client_security_groups" {
  description = "Security groups of the applications that send."
  type        = list(string)
  default     = []
}

variable "program" {
  description = "The lakeward program in S3, and its SHA-256."
  type = object({
    bucket = string
    key    = string
    sha256 = string
  })
}

variable "secrets" {
  description = "LAKEWARD_TOKEN, LAKEWARD_KEY_ID and LAKEWARD_KEY_SECRET: the ARN of a secret each."
  type        = map(string)
}

variable "kms_key_arn" {
  description = "The key of bucket, volume, secrets and log."
  type        = string
}

variable "access_log_bucket" {
  description = "The bucket of S3's access logs."
  type        = string
}
