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
