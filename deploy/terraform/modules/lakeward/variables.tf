variable "name" {
  description = "Name of this Lakeward; the name of all that is made begins with it."
  type        = string
  default     = "lakeward"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "3 to 30 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

# The lake

variable "bucket" {
  description = "Name of the bucket to make."
  type        = string
}

variable "prefix" {
  description = "Where in the bucket Lakeward writes: empty, or ends with a slash. It may not write elsewhere."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || can(regex("^[^/*?].*/$", var.prefix))
    error_message = "Empty, or a path that does not begin with a slash and ends with one."
  }
}

variable "kms_key_arn" {
  description = "Key for bucket, volume, secrets and logs; its policy must let CloudWatch Logs use it. Without one AWS's own keys are used."
  type        = string
  default     = null
}

variable "versioning" {
  description = "Keep overwritten and deleted objects. Lakeward does neither; this guards against others."
  type        = bool
  default     = true
}

variable "noncurrent_days" {
  description = "How long overwritten and deleted objects are kept."
  type        = number
  default     = 30
}

variable "expire" {
  description = "Objects below these prefixes (under `prefix`) are deleted after so many days: { \"quarantine/\" = 90 }. `lakeward audit` misses them then."
  type        = map(number)
  default     = {}
}

variable "access_log_bucket" {
  description = "An existing bucket for S3's server access logs. Without one none are written."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether `terraform destroy` also deletes a bucket that is not empty."
  type        = bool
  default     = false
}

# What it may use

variable "glue_database" {
  description = "Name of the Glue database to make, for the tables of the lake. null: none."
  type        = string
  default     = null

  validation {
    condition     = var.glue_database == null || can(regex("^[a-z0-9_]{1,255}$", var.glue_database))
    error_message = "Lower-case letters, digits and underscores: Athena takes no others."
  }
}

variable "kinesis_stream_arns" {
  description = "Kinesis streams to read from."
  type        = list(string)
  default     = []
}

variable "lease_table" {
  description = "Make a DynamoDB table in which several readers of one Kinesis stream share its shards."
  type        = bool
  default     = false
}

variable "function_arns" {
  description = "Lambda functions that pipelines call."
  type        = list(string)
  default     = []
}

# The service

variable "compute" {
  description = "What runs it: `ec2` (journal on an EBS volume), `fargate` (journal on EFS), or `none` (bucket, role and catalog only)."
  type        = string
  default     = "ec2"

  validation {
    condition     = contains(["ec2", "fargate", "none"], var.compute)
    error_message = "ec2, fargate or none."
  }
}

variable "config" {
  description = "The text of lakeward.yaml. Null takes deploy/lakeward.yaml."
  type        = string
  default     = null
}

variable "environment" {
  description = "Environment variables for `$${NAME}` in the configuration. LAKEWARD_LAKE and AWS_REGION are set already. No secrets: they belong into `secrets`."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "Secrets for `$${NAME}` in the configuration: NAME to the ARN of a Secrets Manager secret or an SSM parameter. The values never come near Terraform's state."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for name, arn in var.secrets :
      can(regex("^[A-Z][A-Z0-9_]*$", name)) && can(regex("^arn:[^:]+:(secretsmanager:[^:]+:[^:]+:secret:|ssm:[^:]+:[^:]+:parameter/)", arn))
    ])
    error_message = "NAME = the ARN of a Secrets Manager secret or of an SSM parameter."
  }
}

variable "vpc_id" {
  description = "The VPC of the service."
  type        = string
  default     = null
}

variable "subnet_id" {
  description = "The subnet of the service: one, because the journal's volume lies in one zone. Private; it needs a way to S3 (a gateway endpoint or NAT)."
  type        = string
  default     = null
}

variable "client_cidrs" {
  description = "Networks whose clients may connect."
  type        = list(string)
  default     = []
}

variable "client_security_groups" {
  description = "Security groups whose members may connect."
  type        = list(string)
  default     = []
}

variable "port" {
  description = "The port of the front doors."
  type        = number
  default     = 7171
}

variable "target_group_arns" {
  description = "Load balancer target groups of the service: type `instance` for ec2, `ip` for fargate; health check /readyz."
  type        = list(string)
  default     = []
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the service's log."
  type        = number
  default     = 365
}

# ec2 only

variable "instance_type" {
  description = "ec2: the instance."
  type        = string
  default     = "c7g.large"
}

variable "ami_id" {
  description = "ec2: the image. Null: the newest Amazon Linux 2023 for the instance's architecture."
  type        = string
  default     = null
}

variable "architecture" {
  description = "arm64 or x86_64: what the instance or task, and the program or image, are for."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "arm64 or x86_64."
  }
}

variable "program" {
  description = "ec2: the `lakeward` program in S3, and the SHA-256 of its bytes in hex."
  type = object({
    bucket = string
    key    = string
    sha256 = string
  })
  default = null
}

variable "volume_gib" {
  description = "ec2: size of the journal's volume. Twice `journal.disk_max` leaves room for the ledger."
  type        = number
  default     = 20
}

variable "volume_iops" {
  description = "ec2: gp3 operations a second. A group of requests costs one fsync."
  type        = number
  default     = 3000
}

variable "volume_snapshot_id" {
  description = "ec2: make the journal's volume from this snapshot, taken after the service stopped for good: see \"Moving\" in docs/deploy.md."
  type        = string
  default     = null
}

# fargate only

variable "image" {
  description = "fargate: the image of deploy/docker, by digest."
  type        = string
  default     = null
}

variable "image_repository_arn" {
  description = "fargate: the private ECR repository that the image is pulled from, if it is one."
  type        = string
  default     = null
}

variable "init_image" {
  description = "fargate: an image with `sh` and `base64`, which writes the configuration before the service starts."
  type        = string
  default     = "public.ecr.aws/docker/library/busybox:1.37"
}

variable "cpu" {
  description = "fargate: CPU units (1024 are one core)."
  type        = number
  default     = 1024
}

variable "memory_mib" {
  description = "fargate: memory."
  type        = number
  default     = 2048
}
