import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;

/** A server of HTTP/1.1 as Java's are made: one selector, channels that do not block, direct buffers. */
final class Nio {
    /** One connection: the head it reads, or what is left of a body. */
    private static final class Conversation {
        final StringBuilder head = new StringBuilder();
        long length;
        long left = -1;
    }

    private static String name;

    public static void main(String[] arguments) throws IOException {
        name = arguments[2];
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1])), 128);
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        ByteBuffer buffer = ByteBuffer.allocateDirect(1024);
        while (true) {
            selector.select();
            Iterator<SelectionKey> keys = selector.selectedKeys().iterator();
            while (keys.hasNext()) {
                SelectionKey key = keys.next();
                keys.remove();
                if (key.isAcceptable()) {
                    SocketChannel accepted = listener.accept();
                    if (accepted != null) {
                        accepted.configureBlocking(false);
                        accepted.register(selector, SelectionKey.OP_READ, new Conversation());
                    }
                } else if (!goesOn((SocketChannel) key.channel(), (Conversation) key.attachment(), buffer)) {
                    key.channel().close();
                }
            }
        }
    }

    private static boolean goesOn(SocketChannel channel, Conversation conversation, ByteBuffer buffer) {
        try {
            buffer.clear();
            if (channel.read(buffer) < 0) {
                return false;
            }
            buffer.flip();
            while (buffer.hasRemaining()) {
                if (conversation.left < 0) {
                    conversation.head.append((char) (buffer.get() & 0xff));
                    begin(conversation);
                } else {
                    int skipped = (int) Math.min(conversation.left, buffer.remaining());
                    buffer.position(buffer.position() + skipped);
                    conversation.left -= skipped;
                }
                if (conversation.left == 0) {
                    answer(channel, conversation);
                }
            }
            return true;
        } catch (IOException error) {
            return false;
        }
    }

    private static void begin(Conversation conversation) {
        StringBuilder head = conversation.head;
        int size = head.length();
        if (size < 4 || !head.substring(size - 4).equals("\r\n\r\n")) {
            return;
        }
        conversation.length = 0;
        for (String line : head.toString().split("\r\n")) {
            if (line.toLowerCase().startsWith("content-length:")) {
                conversation.length = Long.parseLong(line.substring(15).trim());
            }
        }
        conversation.left = conversation.length;
        head.setLength(0);
    }

    private static void answer(SocketChannel channel, Conversation conversation) throws IOException {
        conversation.left = -1;
        String body = name + " " + conversation.length + "\n";
        String head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: " + body.length() + "\r\n\r\n";
        ByteBuffer whole = ByteBuffer.wrap((head + body).getBytes(StandardCharsets.US_ASCII));
        while (whole.hasRemaining()) {
            channel.write(whole);
        }
    }
}
