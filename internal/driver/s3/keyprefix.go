package s3

// KeyPrefix is what every ref of the source begins with: folders are counted below it.
func (c SourceConfig) KeyPrefix() string { return c.Prefix }
