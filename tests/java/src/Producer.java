import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.PutRecordsResponse;
import software.amazon.awssdk.services.kinesis.model.StreamStatus;

/** Makes a stream and puts numbered records: {@code Producer URL STREAM SHARDS COUNT}. CBOR over HTTP/2, as the SDK does by itself. */
public final class Producer {
    private static final int BATCH = 250;

    public static void main(String[] arguments) throws Exception {
        String stream = arguments[1];
        int count = Integer.parseInt(arguments[3]);
        try (KinesisAsyncClient client = client(arguments[0])) {
            client.createStream(r -> r.streamName(stream).shardCount(Integer.parseInt(arguments[2]))).get();
            client.waiter().waitUntilStreamExists(r -> r.streamName(stream)).get();
            var summary = client.describeStreamSummary(r -> r.streamName(stream)).get().streamDescriptionSummary();
            if (summary.streamStatus() != StreamStatus.ACTIVE) {
                throw new IllegalStateException("the stream is " + summary.streamStatus());
            }
            var single = client.putRecord(r -> r.streamName(stream).partitionKey("key-0").data(data(0))).get();
            System.out.println("put 0 " + single.shardId() + " " + single.sequenceNumber());
            for (int start = 1; start < count; start += BATCH) {
                List<PutRecordsRequestEntry> entries = new ArrayList<>();
                for (int number = start; number < Math.min(count, start + BATCH); number++) {
                    entries.add(PutRecordsRequestEntry.builder().partitionKey("key-" + number).data(data(number)).build());
                }
                CompletableFuture<PutRecordsResponse> put = client.putRecords(r -> r.streamName(stream).records(entries));
                PutRecordsResponse reply = put.get();
                if (reply.failedRecordCount() != 0) {
                    throw new IllegalStateException(reply.toString());
                }
                for (int i = 0; i < entries.size(); i++) {
                    var result = reply.records().get(i);
                    System.out.println("put " + (start + i) + " " + result.shardId() + " " + result.sequenceNumber());
                }
            }
            try {
                client.describeStreamSummary(r -> r.streamName("no-such-stream")).get();
            } catch (java.util.concurrent.ExecutionException refusal) {
                System.out.println("refused " + refusal.getCause().getClass().getSimpleName());
            }
        }
    }

    static KinesisAsyncClient client(String url) {
        return KinesisAsyncClient.builder()
            .endpointOverride(URI.create(url))
            .region(Region.US_EAST_1)
            .credentialsProvider(credentials())
            .build();
    }

    static StaticCredentialsProvider credentials() {
        return StaticCredentialsProvider.create(AwsBasicCredentials.create("AKIATEST", "secret"));
    }

    private static SdkBytes data(int number) {
        return SdkBytes.fromUtf8String("{\"number\":" + number + ",\"text\":\"h\u00e9llo\"}\n");
    }
}
