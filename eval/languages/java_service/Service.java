import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.StringWriter;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.LocalDateTime;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;

/**
 * A compiler that stays: reads sources from standard input, answers with the compiler's words and a jar of the classes.
 *
 * <p>A request is a 4-byte length and the source of Main.java; an answer, written to the descriptor named by the
 * argument, is one byte (0: compiled), 4 bytes with the milliseconds of CPU time used, then the compiler's words and the
 * jar, each with a 4-byte length. No source is executed here: annotation processing is off, and nothing but the JDK's own
 * classes can be seen.
 */
public final class Service {
    private static final int MOST_WORDS = 16_000;
    // Classes that join strings without invokedynamic start faster; the result is the same.
    private static final List<String> OPTIONS =
            List.of("-proc:none", "-nowarn", "-encoding", "UTF-8", "-XDstringConcat=inline", "-classpath", "");

    public static void main(String[] arguments) throws IOException {
        DataInputStream requests = new DataInputStream(System.in);
        DataOutputStream answers = new DataOutputStream(new FileOutputStream("/dev/fd/" + arguments[0]));
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        JavaFileManager shared = compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8);
        while (true) {
            byte[] source;
            try {
                source = requests.readNBytes(requests.readInt());
            } catch (EOFException end) {
                return;
            }
            long started = cpuMillis();
            StringWriter words = new StringWriter();
            Map<String, Output> classes = new TreeMap<>();
            boolean compiled = false;
            try {
                compiled = compiler.getTask(words, new Memory(shared, classes), null, OPTIONS, null,
                        List.of(new Source(new String(source, StandardCharsets.UTF_8)))).call();
            } catch (RuntimeException | StackOverflowError error) {
                words.write("error: the compiler failed: " + error);
            }
            byte[] text = words.toString().getBytes(StandardCharsets.UTF_8);
            byte[] jar = compiled ? jar(classes) : new byte[0];
            int length = Math.min(text.length, MOST_WORDS);
            answers.write(compiled ? 0 : 1);
            answers.writeInt((int) (cpuMillis() - started));
            answers.writeInt(length);
            answers.write(text, 0, length);
            answers.writeInt(jar.length);
            answers.write(jar);
            answers.flush();
        }
    }

    private static long cpuMillis() {
        return ProcessHandle.current().info().totalCpuDuration().orElse(Duration.ZERO).toMillis();
    }

    /** The same program gives the same bytes, whenever it is compiled. */
    private static final LocalDateTime MADE = LocalDateTime.of(2000, 1, 1, 0, 0);

    private static byte[] jar(Map<String, Output> classes) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
            zip.setMethod(ZipOutputStream.STORED);
            for (Map.Entry<String, Output> made : classes.entrySet()) {
                byte[] content = made.getValue().bytes.toByteArray();
                ZipEntry entry = new ZipEntry(made.getKey().replace('.', '/') + ".class");
                CRC32 checksum = new CRC32();
                checksum.update(content);
                entry.setSize(content.length);
                entry.setCrc(checksum.getValue());
                entry.setTimeLocal(MADE);
                zip.putNextEntry(entry);
                zip.write(content);
            }
        }
        return bytes.toByteArray();
    }

    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String text) {
            super(URI.create("string:///Main.java"), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public String getName() {
            return "Main.java";
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    private static final class Output extends SimpleJavaFileObject {
        final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        Output(String name) {
            super(URI.create("memory:///" + name.replace('.', '/') + ".class"), Kind.CLASS);
        }

        @Override
        public OutputStream openOutputStream() {
            return bytes;
        }
    }

    private static final class Memory extends ForwardingJavaFileManager<JavaFileManager> {
        private final Map<String, Output> classes;

        Memory(JavaFileManager shared, Map<String, Output> classes) {
            super(shared);
            this.classes = classes;
        }

        @Override
        public JavaFileObject getJavaFileForOutput(
                Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            return classes.computeIfAbsent(name, Output::new);
        }
    }
}
