terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # Where the state lies is told at init (-backend-config=…), so that a
  # fork needs no change here.
  backend "s3" {}
}

provider "aws" {
  region = var.region

  # A local emulator: terraform apply -var emulator=http://127.0.0.1:4566
  skip_credentials_validation = var.emulator != null
  skip_metadata_api_check     = var.emulator != null
  skip_requesting_account_id  = false
  s3_use_path_style           = var.emulator != null

  dynamic "endpoints" {
    for_each = var.emulator != null ? [var.emulator] : []

    content {
      dynamodb = endpoints.value
      ec2      = endpoints.value
      ecs      = endpoints.value
      efs      = endpoints.value
      glue     = endpoints.value
      iam      = endpoints.value
      kinesis  = endpoints.value
      logs     = endpoints.value
      s3       = endpoints.value
      ssm      = endpoints.value
      sts      = endpoints.value
    }
  }
}
